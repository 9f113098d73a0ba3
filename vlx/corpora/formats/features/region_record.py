"""One image of a region file, which every reader of this folder yields."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from vlx.corpora.store import NO_SIZE, Size


class RegionRecord(NamedTuple):
    """The regions of one image. where: file and line or record, for errors."""

    image_id: str
    features: np.ndarray  # [R,D]
    boxes: np.ndarray  # [R,4] xyxy in 0..1
    where: str
    image_size: Size = NO_SIZE
    fields: Mapping[str, np.ndarray] = {}  # of store.FIELDS
    tags: tuple[str, ...] = ()
