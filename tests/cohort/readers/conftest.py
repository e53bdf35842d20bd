"""Small images and tables for the readers' tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """draw("a/b.png", shade): an 8-px image below tmp_path."""

    def _draw(name: str, shade: int = 128, size: int = 8) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((size, size, 3), shade, dtype=np.uint8)).save(path)
        return path

    return _draw
