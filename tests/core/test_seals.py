"""Damage is seen (P15): any flipped bit, a cut or emptied file is refused by name, and never crashes the reader."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medi.cohort.pixels import Pixels
from medi.core.errors import MediError
from medi.core.files import read_json, read_table, write_json, write_table
from medi.core.seals import KEY, MARK
from medi.evaluation.encoders import embedding

TABLE = pd.DataFrame({"name": ["a", "b", ""] * 50, "value": np.arange(150.0), "n": np.arange(150)})


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["json", "parquet", "safetensors"])
def test_every_flipped_bit_is_seen(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"file.{kind}"
    write, read = {
        "json": (lambda: write_json(path, {"format_version": 1, "value": 0.25, "names": ["a", "b"]}), read_json),
        "parquet": (lambda: write_table(path, TABLE), read_table),
        "safetensors": (
            lambda: embedding._write(path, np.ones((4, 3), dtype=np.float32)),
            lambda file: embedding._read(file, slice(0, 4), 3),
        ),
    }[kind]
    write()
    data = path.read_bytes()
    before = read(path)
    step = max(1, 8 * len(data) // 400)
    for bit in range(0, 8 * len(data), step):
        path.write_bytes(flipped(data, bit))
        with pytest.raises(MediError, match=f"file.{kind}: is damaged, or was changed after it was written"):
            read(path)
    for cut in (b"", data[: len(data) // 2], data[:-1], bytes(len(data))):
        path.write_bytes(cut)
        with pytest.raises(MediError, match=f"file.{kind}"):
            read(path)
    path.write_bytes(data)
    np.testing.assert_array_equal(np.asarray(read(path)), np.asarray(before))


def test_other_programs_read_these_files_as_ever(tmp_path: Path) -> None:
    pd.testing.assert_frame_equal(pd.read_parquet(write_table(tmp_path / "t.parquet", TABLE)), TABLE)
    content = json.loads(write_json(tmp_path / "c.json", {"a": 1}).read_text())
    assert content.pop(KEY).startswith(MARK)
    assert content == {"a": 1} == read_json(tmp_path / "c.json")


def test_files_without_a_checksum_are_older_and_are_read(tmp_path: Path) -> None:
    TABLE.to_parquet(tmp_path / "t.parquet", index=False)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.parquet"), TABLE.astype({"name": "str"}))
    (tmp_path / "c.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "c.json") == {"a": 1}


def test_pixels_are_checked_when_they_are_first_used(tmp_path: Path) -> None:
    """Damage in one chunk does not keep the others from being read."""
    images = np.random.default_rng(0).integers(0, 256, (1500, 64, 64, 3), dtype=np.uint8)
    path = Pixels.of(images).save(tmp_path / "pixels.npy")
    with path.open("rb+") as file:
        file.seek(-100, os.SEEK_END)
        byte = file.read(1)
        file.seek(-100, os.SEEK_END)
        file.write(flipped(byte, 0))
    pixels = Pixels.open(path)
    np.testing.assert_array_equal(pixels[:10], images[:10])
    with pytest.raises(MediError, match=r"pixels.npy: rows 1364 to 1499 are damaged; write it again"):
        pixels.select(np.arange(1490, 1500))[:]
