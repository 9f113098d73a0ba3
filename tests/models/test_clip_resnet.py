"""The grid of CLIP's residual network: positions of cells, statistics of batch norm, refused shapes."""

import pytest
import torch
from torch import Tensor, nn

from vlx.models.clip_resnet import AttentionPool, Bottleneck, ClipResNet, tokens


def build(**options: int) -> ClipResNet:
    torch.manual_seed(0)
    model = ClipResNet((1, 2, 1, 1), 4, **options).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def images(count: int, height: int, width: int) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64), (32, 32)])
def test_a_grid_cell_is_32_pixels_square(height: int, width: int) -> None:
    maps = build().stages(images(2, height, width))
    assert [tuple(feature_map.shape) for feature_map in maps] == [
        (2, 4 * 2 ** max(0, 2 + stage - 1) if stage else 4, height >> shift, width >> shift)
        for stage, shift in enumerate((2, 2, 3, 4, 5))
    ]


def test_tokens_go_row_by_row() -> None:
    grid = torch.arange(12).view(1, 2, 2, 3)  # two channels, two rows, three columns
    assert tokens(grid)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert tokens(grid)[0, 4].tolist() == [4, 10]


def test_a_change_of_the_upper_left_changes_the_upper_left_of_the_first_stage() -> None:
    model = build()
    plain = images(1, 128, 128)
    changed = plain.clone()
    changed[:, :, :16, :16] += 1
    difference = (model.stages(changed)[1] - model.stages(plain)[1]).abs().sum(1)[0]  # [32,32], of 4 pixels each
    assert difference[0, 0] > 0 and not difference[10:].any() and not difference[:, 10:].any()


def test_the_grid_of_an_image_depends_on_its_batch_in_train_mode_alone() -> None:
    model = build()
    batch = images(3, 64, 32)
    torch.testing.assert_close(model(batch[1:2]), model(batch)[1:2], atol=1e-6, rtol=1e-5)
    model.train()
    assert not torch.allclose(model(batch[1:2]), model(batch)[1:2], atol=1e-3)


def test_train_mode_moves_the_running_statistics_by_a_tenth() -> None:
    model = build()
    batch = images(2, 32, 32)
    before = model.bn1.running_mean.clone()
    model.train()(batch)
    batch_mean = model.conv1(batch).mean((0, 2, 3))
    torch.testing.assert_close(model.bn1.running_mean, 0.9 * before + 0.1 * batch_mean)
    assert model.bn1.num_batches_tracked == 1
    model.eval()(batch)
    assert model.bn1.num_batches_tracked == 1


def test_only_the_stem_has_a_convolution_with_a_stride() -> None:
    strided = [name for name, part in build().named_modules() if isinstance(part, nn.Conv2d) and part.stride != (1, 1)]
    assert strided == ["conv1"]


def test_a_block_of_equal_shapes_adds_its_input_as_it_is() -> None:
    block = Bottleneck(8, 2, stride=1).eval()
    nn.init.zeros_(block.bn3.weight)
    x = torch.rand(1, 8, 4, 4)
    assert torch.equal(block(x), x) and not any("downsample" in name for name in block.state_dict())


def test_attention_pool_of_equal_cells_is_their_value() -> None:
    pool = AttentionPool(64, 5, places=5)
    cell = torch.rand(64)
    expected = pool.c_proj(pool.v_proj(cell))
    torch.testing.assert_close(pool(cell.view(1, 64, 1, 1).expand(1, 64, 2, 2))[0], expected)


def test_the_attention_pool_exists_only_with_embed_dim() -> None:
    assert not any(name.startswith("attnpool") for name in build().state_dict())
    assert build(embed_dim=6, places=10).attnpool.positional_embedding.shape == (10, 128)


@pytest.mark.parametrize("shape", [(1, 3, 64, 65), (1, 3, 40, 64), (3, 64, 64), (1, 1, 64, 64)])
def test_pixels_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected \\(B, 3, H, W\\), H and W multiples of 32"):
        build()(torch.zeros(shape))
