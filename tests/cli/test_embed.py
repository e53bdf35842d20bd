"""The verb embed as a user runs it: whole, cached, in shards."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from command_line import Medi, fine, refused
from medi.cohort.table import Cohort
from medi.evaluation.encoders import COLOUR_TEXTURE, embed


@pytest.mark.slow
def test_embeddings_are_the_encoders_own_and_cached(medi: Medi, folders: Path) -> None:
    shown = fine(medi("embed", folders / "good", "--out", "e.parquet", "--cache", "kept"))
    assert "160 patches" in shown
    table = pd.read_parquet("e.parquet")
    cohort = Cohort.load(folders / "good")
    assert list(table["sample_id"]) == list(cohort.table["sample_id"])
    np.testing.assert_array_equal(table.drop(columns="sample_id").to_numpy(), embed(cohort, COLOUR_TEXTURE))
    (kept,) = Path("kept").rglob("*.safetensors")
    save_file({"features": load_file(kept)["features"] * 0}, kept)
    fine(medi("embed", folders / "good", "--out", "again.parquet", "--cache", "kept"))
    assert not pd.read_parquet("again.parquet").drop(columns="sample_id").to_numpy().any(), "taken from the cache"
    fine(medi("embed", folders / "flat", "--out", "flat.parquet", "--cache", "kept"))
    assert pd.read_parquet("flat.parquet").drop(columns="sample_id").to_numpy().any(), "another cohort, another entry"


@pytest.mark.slow
def test_embedding_in_shards(medi: Medi, folders: Path) -> None:
    whole = ["embed", folders / "good", "--out", "e.parquet", "--jpeg", "80"]
    fine(medi(*whole))
    assert [path.name for path in Path().iterdir()] == ["e.parquet"], "parts go when the table is written"
    expected = pd.read_parquet("e.parquet")
    refused(medi("embed", folders / "flat", "--out", "e.parquet"), "holds embeddings of another cohort or encoder")
    Path("mine.csv").write_text("image,class\na.png,a\n")
    for taken in ("mine.csv", folders / "good" / "table.parquet"):
        before = Path(taken).read_bytes()
        refused(medi("embed", folders / "good", "--out", taken), "is no table of embeddings; choose another --out")
        assert Path(taken).read_bytes() == before
    Path("mine.csv").unlink()
    Path("e.parquet").unlink()
    refused(medi(*whole, "--shard", "0/2"), "--cache")
    assert "shard 1/2 is done" in fine(medi(*whole, "--shard", "1/2", "--cache", "kept"))
    assert not Path("e.parquet").exists()
    assert "160 patches" in fine(medi(*whole, "--shard", "0/2", "--cache", "kept"))
    pd.testing.assert_frame_equal(pd.read_parquet("e.parquet"), expected)


def test_mistakes_get_one_line(medi: Medi, folders: Path, tmp_path: Path) -> None:
    refused(medi("embed", tmp_path / "nowhere"), "nowhere")
    refused(medi("embed", folders / "real", "--encoder", "incepption"), "incepption", COLOUR_TEXTURE.name)
    good = Cohort.load(folders / "good")
    Cohort(good.table, good.schema).save(tmp_path / "bare")
    refused(medi("embed", tmp_path / "bare"), "bare", "medi pack")
