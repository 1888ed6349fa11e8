"""Forms that arguments may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import numpy as np

Pair = Union[int, Sequence[int]]


def pair(name: str, value: Pair) -> tuple[int, int]:
    """Makes an int, or a sequence of two, into (height, width)."""
    values = (value, value) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) != 2 or not all(isinstance(v, (int, np.integer)) for v in values):
        raise ValueError(f"{name}: got {value!r}, expected an int or a pair of ints")
    return int(values[0]), int(values[1])
