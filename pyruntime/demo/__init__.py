"""What `pyruntime demo` shows: a classifier of handwritten digits, in two versions.

The models and the test images beside this file are written by tools/train_digits.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER / "repository"
MODEL = "digits"


@dataclass(frozen=True, slots=True)
class TestImages:
    """Images that no training step has seen.

    images: float32 [n, 1, 8, 8], grey values 0 to 16. labels: int64 [n], 0 to 9.
    """

    __test__ = False  # not a test of pytest's

    images: np.ndarray[Any, np.dtype[np.float32]]
    labels: np.ndarray[Any, np.dtype[np.int64]]


def test_images() -> TestImages:
    """Read the images that ship with the package."""
    with np.load(FOLDER / "test_images.npz", allow_pickle=False) as file:
        images = file["images"].astype(np.float32)[:, None]
        return TestImages(images, file["labels"].astype(np.int64))


vars(test_images)["__test__"] = False
