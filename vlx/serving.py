"""A served model: a text and its images in, an answer and its probability out."""

import base64
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from PIL import Image

from vlx.errors import UserError

EXPECTED_IMAGE = "expected a path, base64 bytes or a data: URI of an image"
PATH_CHARACTERS = 4_096  # a longer text is base64


class BadInput(MlflowException, UserError):
    """A request that cannot be answered; MLflow's server answers 400 and the message."""

    def __init__(self, message: str) -> None:
        super().__init__(message, INVALID_PARAMETER_VALUE)


def _load_pyfunc(path: str) -> "AnswerModel":
    """Called by MLflow to load a model; `path` is the vlx model folder."""
    from vlx import checkpoints
    from vlx.corpora import detectors
    from vlx.recipes.data import image_input

    loaded = checkpoints.load(Path(path))
    preprocessing = loaded.preprocessing
    detect = None
    if loaded.spec.reads_regions:
        if preprocessing.detector in ("external", "none"):
            raise UserError(
                "this model reads regions of a detector that is not part of vlx; score it with the entry point "
                "evaluate on prepared features."
            )
        detect = detectors.load(preprocessing.detector)
    return AnswerModel(loaded, image_input(preprocessing, None, detect=detect))


class AnswerModel:
    """loaded: a checkpoints.Loaded; images: its ImageInput."""

    def __init__(self, loaded: Any, images: Any) -> None:
        if loaded.preprocessing.is_pretrained:
            raise UserError("this model is pre-trained and answers nothing yet: fine-tune it.")
        if not loaded.preprocessing.answers:
            raise UserError("this model selects a region: score it with the entry point evaluate.")
        self.model, self.tokenizer = loaded.model, loaded.wordpiece
        self.preprocessing = loaded.preprocessing
        self.images = images
        self.model.eval()

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """DataFrame of strings text, image_0, ... -> the most probable answer and its score in 0..1."""
        columns = [f"image_{number}" for number in range(self.preprocessing.num_images)]
        for name in ("text", *columns):
            if name not in model_input:
                raise BadInput(f"missing column {name}; expected text, {', '.join(columns)}.")
        answers, probabilities = [], []
        for text, *images in zip(model_input["text"], *(model_input[name] for name in columns), strict=True):
            scores = self.scores(str(text), [open_image(*pair) for pair in zip(images, columns, strict=True)])
            label = max(range(len(scores)), key=scores.__getitem__)
            answers.append(self.preprocessing.answers[label])
            probabilities.append(scores[label])
        return model_input.assign(answer=answers, score=probabilities)[["answer", "score"]]

    def scores(self, text: str, images: list[Image.Image]) -> list[float]:
        """The probability of every answer."""
        (ids,) = self.tokenizer.encode([text], limit=self.preprocessing.max_text_tokens)
        batch = {name: values[None] for name, values in self.images.from_images(images).items()}  # [1,N,...]
        batch["input_ids"] = torch.tensor(ids).expand(1, len(images), len(ids))
        batch["text_mask"] = torch.ones_like(batch["input_ids"], dtype=torch.bool)
        with torch.inference_mode():
            logits = self.model(batch).logits[0].float()
        return (logits.sigmoid() if self.preprocessing.soft_targets else logits.softmax(-1)).tolist()


def open_image(text: str, column: str) -> Image.Image:
    """The image of a path, of base64 bytes, or of a data URI. Raises BadInput; Pillow's limit on pixels stays on."""
    if not isinstance(text, str) or not text:
        raise BadInput(f"{column}: found {type(text).__name__} {str(text)[:40]!r}, {EXPECTED_IMAGE}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(image_bytes(text)))
            image.load()
            return image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadInput(f"{column} {text[:60]!r}: {error}; {EXPECTED_IMAGE}.") from error


def image_bytes(text: str) -> bytes:
    if len(text) < PATH_CHARACTERS and Path(text).is_file():
        return Path(text).read_bytes()
    try:
        return base64.b64decode(text.rpartition(",")[2], validate=True)  # base64 itself has no comma
    except ValueError as error:
        raise ValueError("neither a file nor base64") from error
