"""Corpora: prepared once from official files, opened in milliseconds.

open(path)                     a prepared corpus
prepare(format, source, out)   official files -> corpus
"""

from vlx.corpora import validate
from vlx.corpora.formats import FORMATS, prepare
from vlx.corpora.store import Corpus, Example

__all__ = ["FORMATS", "Corpus", "Example", "open", "prepare", "validate"]

open = Corpus  # corpora.open(path)
