"""A served model: a text and its pictures in, an answer and its probability out."""

import base64
import warnings
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from vlx.corpora.pixels import Canvas, canvas_of, pixels
from vlx.errors import UserError

Read = Callable[[list[int], list[Image.Image]], dict[str, torch.Tensor]]
Detect = Callable[[Image.Image], tuple[np.ndarray, np.ndarray]]  # picture -> features [R,D], boxes [R,4]
PICTURE = "expected a path, base64 bytes or a data: URI of a picture"


class BadInput(MlflowException, UserError):
    """What a caller sent cannot be answered; MLflow's server answers 400 and the message."""

    def __init__(self, message: str) -> None:
        super().__init__(message, INVALID_PARAMETER_VALUE)


def _load_pyfunc(path: str) -> "AnswerModel":
    """What MLflow calls to load a model; `path` is the vlx model folder."""
    from vlx import checkpoints
    from vlx.corpora import detectors

    loaded = checkpoints.load(Path(path))
    meta = loaded.meta
    if loaded.tokenizer and not meta["region_dim"]:
        return AnswerModel(loaded, partial(one_of_pixels, canvas=canvas_of(meta)))
    if (name := meta["detector"]) in ("external", "none"):
        raise UserError(
            "this model reads regions of a detector that is not part of vlx; score it with the entry point evaluate on "
            "prepared features."
        )
    return AnswerModel(loaded, partial(one_of_regions, detect=detectors.load(name), max_regions=meta["max_regions"]))


class AnswerModel:
    """loaded: .model, .tokenizer, .meta; read: makes the model's batch of a text and its pictures."""

    def __init__(self, loaded: Any, read: Read) -> None:
        if loaded.meta["task"] == "pretrain":
            raise UserError("this model is pre-trained and answers nothing yet: fine-tune it.")
        if not loaded.meta["answers"]:
            raise UserError("this model points at regions: score it with the entry point evaluate.")
        self.loaded, self.read = loaded, read
        loaded.model.eval()

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """DataFrame of strings text, image_0, ... -> the likeliest answer and its score in 0..1."""
        pictures = [f"image_{n}" for n in range(self.loaded.meta["num_images"])]
        for name in ("text", *pictures):
            if name not in model_input:
                raise BadInput(f"missing column {name}; expected text, {', '.join(pictures)}.")
        rows = zip(model_input["text"], *(model_input[name] for name in pictures), strict=True)
        scores = [self.scores(str(text), list(map(open_picture, images, pictures))) for text, *images in rows]
        best = [max(range(len(each)), key=each.__getitem__) for each in scores]
        answers = [self.loaded.meta["answers"][label] for label in best]
        found = [each[label] for each, label in zip(scores, best, strict=True)]
        return model_input.assign(answer=answers, score=found)[["answer", "score"]]

    def scores(self, text: str, pictures: list[Image.Image]) -> list[float]:
        """Of every answer."""
        meta = self.loaded.meta
        (tokens,) = self.loaded.tokenizer.encode([text], limit=meta["max_text_tokens"])
        with torch.inference_mode():
            logits = self.loaded.model(self.read(tokens, pictures)).logits[0].float()
        return (logits.sigmoid() if meta["soft_targets"] else logits.softmax(-1)).tolist()


def one_of_pixels(tokens: list[int], pictures: list[Image.Image], *, canvas: Canvas) -> dict[str, torch.Tensor]:
    """A batch of one: input_ids and text_mask [1,T], pixels [1,3,H,W]."""
    input_ids = torch.tensor([tokens])
    shown = torch.stack([pixels(picture, shortest=canvas.shortest, longest=canvas.longest) for picture in pictures])
    return {"input_ids": input_ids, "text_mask": torch.ones_like(input_ids, dtype=torch.bool), "pixels": shown}


def one_of_regions(
    tokens: list[int], pictures: list[Image.Image], *, detect: Detect, max_regions: int
) -> dict[str, torch.Tensor]:
    """A batch of one: input_ids and text_mask [1,N,T], regions [1,N,R,D], boxes [1,N,R,4], region_mask [1,N,R]."""
    found = [detect(picture) for picture in pictures]
    cut = [[torch.from_numpy(each[:max_regions]).float() for each in pair] for pair in found]
    regions, boxes = (pad_sequence(list(each), batch_first=True)[None] for each in zip(*cut, strict=True))
    mask = pad_sequence([torch.ones(len(corners)) for _, corners in cut], batch_first=True)[None].bool()
    input_ids = torch.tensor(tokens).expand(1, len(found), len(tokens))
    text_mask = torch.ones_like(input_ids, dtype=torch.bool)
    return {"input_ids": input_ids, "text_mask": text_mask, "regions": regions, "boxes": boxes, "region_mask": mask}


def open_picture(text: str, column: str) -> Image.Image:
    """The picture of a path, of base64 bytes, or of a data URI. Raises BadInput; Pillow's limit on pixels stays on."""
    if not isinstance(text, str) or not text:
        raise BadInput(f"{column}: found {type(text).__name__} {str(text)[:40]!r}, {PICTURE}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(BytesIO(picture_bytes(text)))
            picture.load()
            return picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadInput(f"{column} {text[:60]!r}: {error}; {PICTURE}.") from error


def picture_bytes(text: str) -> bytes:
    if len(text) < 4_096 and Path(text).is_file():
        return Path(text).read_bytes()
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)  # base64 itself has no comma
    except ValueError as error:
        raise ValueError("neither a file nor base64") from error
