import pytest

pytest.importorskip("openslide")
pytest.importorskip("tifffile")
