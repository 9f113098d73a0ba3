"""CLIP's residual network, read as a grid of features (Radford et al. 2021: three convolutions first, pooled strides).

Parameter names are the original's. Shapes: B images of H x W pixels; C = 32 * width channels of the grid's h x w
cells, h = H/32 rows and w = W/32 columns.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 32  # pixels from one grid cell to the next
EXPANSION = 4  # channels that leave a block over channels inside
STRIDES = (1, 2, 2, 2)  # of the four stages; the stem has 4
HEAD_WIDTH = 64  # of every attention in CLIP


def convolution(inputs: int, outputs: int, size: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)


class Bottleneck(nn.Module):
    """Three convolutions and a shortcut: [B,I,h,w] -> [B,4P,h/s,w/s]. The stride s is an average pool."""

    def __init__(self, inputs: int, planes: int, *, stride: int) -> None:
        super().__init__()
        outputs = planes * EXPANSION
        self.conv1 = convolution(inputs, planes, 1)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = convolution(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = convolution(planes, outputs, 1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        shortcut: list[tuple[str, nn.Module]] = [("-1", nn.AvgPool2d(stride)), ("0", convolution(inputs, outputs, 1))]
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(OrderedDict([*shortcut, ("1", nn.BatchNorm2d(outputs))]))
        else:
            self.downsample = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = self.pool(F.relu(self.bn2(self.conv2(inner))))
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(x))


class AttentionPool(nn.Module):
    """CLIP's image vector: attention from the mean cell to itself and every cell, [B,C,h,w] -> [B,E]."""

    def __init__(self, channels: int, outputs: int, *, places: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(places, channels))
        self.k_proj = nn.Linear(channels, channels)
        self.q_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, outputs)

    def forward(self, grid: Tensor) -> Tensor:
        cells = tokens(grid)
        cells = torch.cat([cells.mean(1, keepdim=True), cells], 1) + self.positional_embedding
        projected = (self.q_proj(cells[:, :1]), self.k_proj(cells), self.v_proj(cells))
        heads = [x.unflatten(-1, (-1, HEAD_WIDTH)).transpose(1, 2) for x in projected]  # [B,heads,1+h*w,64]
        return self.c_proj(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(1))


class ClipResNet(nn.Module):
    """pixels [B,3,H,W] -> grid [B,C,h,w]. `layers`: blocks of each stage.

    Batch norm takes the statistics of the batch in train mode and then moves its running ones, as in the original.
    embed_dim > 0: with the attention pool, which the grid does not need, over 1 + h*w `places`.
    """

    def __init__(self, layers: tuple[int, ...], width: int, *, embed_dim: int = 0, places: int = 50) -> None:
        super().__init__()
        self.conv1 = convolution(3, width // 2, 3, stride=2)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = convolution(width // 2, width // 2, 3)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = convolution(width // 2, width, 3)
        self.bn3 = nn.BatchNorm2d(width)
        inputs = width
        for stage, (blocks, stride) in enumerate(zip(layers, STRIDES, strict=True)):
            planes = width * 2**stage
            chain = [Bottleneck(inputs, planes, stride=stride)]
            inputs = planes * EXPANSION
            chain += [Bottleneck(inputs, planes, stride=1) for _ in range(1, blocks)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*chain))
        if embed_dim:
            self.attnpool = AttentionPool(inputs, embed_dim, places=places)

    def stem(self, pixels: Tensor) -> Tensor:
        """[B,3,H,W] -> [B,width,H/4,W/4]."""
        x = F.relu(self.bn1(self.conv1(pixels)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.avg_pool2d(F.relu(self.bn3(self.conv3(x))), 2)

    def stages(self, pixels: Tensor) -> list[Tensor]:
        """Outputs of the stem and of the four stages; the last is the grid."""
        if pixels.dim() != 4 or pixels.shape[1] != 3 or pixels.shape[2] % STRIDE or pixels.shape[3] % STRIDE:
            raise ValueError(f"pixels are {tuple(pixels.shape)}; expected (B, 3, H, W), H and W multiples of {STRIDE}.")
        maps = [self.stem(pixels.to(self.conv1.weight.dtype))]
        for stage in range(1, len(STRIDES) + 1):
            maps.append(self.get_submodule(f"layer{stage}")(maps[-1]))
        return maps

    def forward(self, pixels: Tensor) -> Tensor:
        return self.stages(pixels)[-1]


def tokens(grid: Tensor) -> Tensor:
    """The cells row by row: [B,C,h,w] -> [B,h*w,C]."""
    return grid.flatten(2).transpose(1, 2)
