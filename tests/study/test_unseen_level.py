"""The arm of a level that training never saw: a curve over k, only real patches of others to start from, resumable."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.files import read_table
from medi.evaluation.encoders import Encoder
from medi.models.checkpoint import Checkpoint, load_model, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.sampling.sampler import SamplerSettings
from medi.sampling.transfer import TransferSettings
from medi.study.unseen_level import Asked, Newcomer, unseen_level, without_level
from medi.training.adaptation.learning import AdaptSettings
from medi.training.adaptation.levels import level_vector

SCHEMA = Schema(Attribute("class", levels=("a", "b")), (Attribute("site", levels=("A", "B")), Attribute("group")))
COLOURS = Encoder("colours", 3, 8, "", "0", lambda images: images.mean(axis=(1, 2), dtype=np.float32))
ASKED = Asked(
    (0, 6),
    per_class=20,
    distance_images=20,
    adapting=AdaptSettings(vector_images=32, tune_images=32, batch=16),
    sampling=SamplerSettings(steps=2, batch=8),
    translating=TransferSettings(steps=2, batch=8),
)


def patches(name: str, n: int, sites: str, **columns: str) -> Cohort:
    """Patches whose green says the class and whose red the site, on slides of two."""
    rng = seeds.generator("unseen", name)
    table = pd.DataFrame({"sample_id": [f"{name}{i}" for i in range(n)], "class": ["a", "b"] * (n // 2)})
    owner = [f"{name}-{i // 4}" for i in range(n)]
    table = table.assign(site=[sites[i // 2 % len(sites)] for i in range(n)], group="g", patient=owner, slide=owner)
    images = rng.integers(90, 140, (n, 8, 8, 3), dtype=np.uint8)
    images[..., 1] += (40 * (table["class"] == "b")).to_numpy(dtype=np.uint8)[:, None, None]
    images[..., 0] += np.array([30 * "ABC".index(site) for site in table["site"]], dtype=np.uint8)[:, None, None]
    schema = Schema(SCHEMA.classes, (Attribute("site", levels=("A", "B", "C")), Attribute("group", levels=("g",))))
    return Cohort(table.assign(**columns), schema, Pixels.of(images))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    schema = Schema(SCHEMA.classes, (SCHEMA.attributes[0], Attribute("group", levels=("g",))))
    denoiser = Denoiser(NetworkSettings(size=8, fold=4, channels=(8,), layers=1), schema)
    config = {"recipe": {"dropout": 0.1}, "combinations": {"columns": ["class", "site", "group"], "rows": []}}
    return save_model(tmp_path / "model.safetensors", denoiser, Checkpoint.of(denoiser, **config))


def test_without_a_level_neither_rows_nor_name_are_left() -> None:
    left = without_level(patches("x", 24, "ABC"), "site", "B")
    assert left.table["site"].value_counts().to_dict() == {"A": 8, "C": 8}
    assert left.schema.attribute("site").levels == ("A", "C")
    assert left.schema.attribute("group").levels == ("g",)
    assert len(left.images) == 16


@pytest.mark.slow
def test_a_curve_over_the_patches_of_a_new_level(model: Path, tmp_path: Path) -> None:
    """P5: arms start from old patches; k = 0 is the mean of the known levels; done again nothing is learned again."""
    sets = [patches(name, 40, "C") for name in ("test", "floor", "oracle")]
    new = Newcomer("site", "C", patches("learn", 8, "C", **{"class": "", "site": ""}), *sets)
    old, out = patches("old", 48, "AB"), tmp_path / "out"
    table = unseen_level(model, old, new, out, COLOURS, ASKED)
    assert set(table["x"]) == {0, 6}
    found = table.set_index(["metric", "arm", "x"])["value"]
    assert found["balanced_accuracy", "real", 0] == found["balanced_accuracy", "real", 6]
    assert found["seconds", "medi", 0] == 0 < found["seconds", "medi", 6]
    assert (table[table["metric"] == "frechet"]["value"] >= 0).all()
    counts = read_table(out / "tables/utility.parquet").query("scope == 'all'").set_index("arm")["n_train"]
    assert (counts["real"].max(), counts["oracle"].max(), counts["medi, 6 patches"].max()) == (48, 88, 88)
    assert counts["translated, 6 patches"].max() == 88
    translated = Cohort.load(out / "k6/translated").table
    assert translated.groupby("class").size().to_dict() == {"a": 20, "b": 20}
    assert set(translated["translated_from"]) <= {"A", "B"}
    assert set(translated["site"]) == {"C"}
    assert set(translated["patient"]) <= set(old.table["patient"]), "splits hold (P5)"
    assert {("frechet", "translated"), ("gap_closed", "translated")} <= set(zip(table["metric"], table["arm"]))
    mean, base = load_model(out / "k0/model.safetensors")[0], load_model(model)[0]
    known = torch.stack([level_vector(base, "site", name) for name in "AB"])
    torch.testing.assert_close(level_vector(mean, "site", "C"), known.mean(dim=0))
    assert load_model(out / "k6/model.safetensors")[1].adaptations[0]["patches"] == 6
    samples = Cohort.load(out / "k6/samples").table
    assert samples.groupby("class").size().to_dict() == {"a": 20, "b": 20}
    assert (samples["group"] == "g").all(), "what old patches of the class have"
    before = (out / "k6/model.safetensors").stat().st_mtime_ns
    pd.testing.assert_frame_equal(unseen_level(model, old, new, out, COLOURS, ASKED), table)
    assert (out / "k6/model.safetensors").stat().st_mtime_ns == before
