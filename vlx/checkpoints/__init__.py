"""Models in and out: vlx's own folders, the originals' checkpoints, registered versions."""

from vlx.checkpoints.answers import answer_rows, read_answers
from vlx.checkpoints.bert import bert_folder, initialize_text_encoder, vocab_file
from vlx.checkpoints.folders import Loaded, load, save
from vlx.checkpoints.imported import load_original
from vlx.checkpoints.originals import digest, write_original
from vlx.checkpoints.report import LoadReport, load_weights

__all__ = [
    "LoadReport", "Loaded", "answer_rows", "bert_folder", "digest", "initialize_text_encoder", "load", "load_original",
    "load_weights", "read_answers", "save", "vocab_file", "write_original",
]  # fmt: skip
