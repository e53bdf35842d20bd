"""The façade of models: paths as text, presets, plans of every kind; what is wrong is one MediError."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import medi
from medi import MediError, Model
from medi.api.model import rows_of
from medi.cohort.table import Cohort
from medi.models.cost import flop
from medi.models.network import NetworkSettings
from medi.training.presets import PRESETS, Preset
from medi.training.recipe import Recipe


@pytest.fixture
def packed(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cohort:
    monkeypatch.chdir(tmp_path)
    split = ["train"] * 16 + ["validation"] * 8
    return cohort.with_columns(split=split)


def own(**changes: object) -> Preset:
    recipe = Recipe(images=32, batch=8, save_every=16, warmup=8).changed(**changes)
    return Preset(NetworkSettings(size=8, fold=2, channels=(8, 8)), recipe)


@pytest.mark.slow
def test_train_sample_and_load_with_paths_as_text(packed: Cohort) -> None:
    """The same from a folder as from memory; validation patches are not learned; images name the hold-out."""
    certificate = {"ids": {"train": "of these"}, "labels": {"columns": ["class"], "hash": "theirs"}}
    packed = replace(packed, info={**packed.info, "certificate": certificate})
    packed.save("packed")
    model = medi.train("packed", preset=own(), out="m", seed=3)
    assert model.checkpoint.data == packed.where(split="train").digest()
    assert (Path("m") / "log.jsonl").exists()
    rows = packed.table.head(5)
    made = model.sample(rows, out="s", seed=1, steps=2, batch=4)
    again = medi.sample("m", rows, out="t", seed=1, steps=2, batch=4)
    assert len(made) == 5
    assert np.array_equal(made.images[:], again.images[:])
    assert made.info["holdout"] == {"labels": certificate["labels"], "train": "of these"}
    assert set(made.table["origin"]) == {Model.load("m/model.safetensors").checkpoint.hash}


@pytest.mark.slow
def test_the_class_alone_is_the_baseline(packed: Cohort) -> None:
    model = medi.train(packed, preset=own(), out="cls", metadata=False)
    assert [condition.name for condition in model.schema.conditions] == ["class"]
    assert "class (3); 32 training images drawn" in model.title
    assert list(model.to_frame()["condition"]) == ["class"]


@pytest.mark.slow
def test_plans_tables_of_counts_and_folders_say_the_same(packed: Cohort) -> None:
    model = medi.train(packed, preset=own(), out="m")
    plan = packed.plan(to=4)
    plan.expand(0).to_parquet(Path("rows.parquet"))
    one = model.sample(plan, out="a", steps=1)
    other = model.sample(".", out="b", steps=1)
    assert np.array_equal(one.images[:], other.images[:])


@pytest.mark.slow
def test_a_saved_plan_is_taken(cohort: Cohort, tmp_path: Path) -> None:
    """Defect: a plan that Plan.save wrote has no rows.parquet, and could not be sampled."""
    plan = cohort.plan()
    assert rows_of(plan.save(tmp_path / "plan"), 3).equals(plan.expand(3))
    with pytest.raises(MediError, match="no plan here; `medi plan`"):
        rows_of(tmp_path)


def test_guidance_by_name_needs_dropout(packed: Cohort) -> None:
    rows = packed.table.head(2)
    dropped = medi.train(packed, preset=own(), out="d", dropout=0.2)
    plain = dropped.sample(rows, out="p", steps=2)
    guided = dropped.sample(rows, out="g", steps=2, guidance={"class": 3.0})
    assert (plain.images[:] != guided.images[:]).any()
    with pytest.raises(MediError, match="trained without conditioning dropout of class"):
        medi.train(packed, preset=own(), out="n").sample(rows, out="x", guidance={"class": 1.0})
    with pytest.raises(MediError, match="autoguidance needs both a worse model and a weight"):
        dropped.sample(rows, out="x", guidance={"class": 3.0, "autoguidance": 0.5})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "adam"}, "Recipe: optimizer is 'adam'; input should be 'adamw' or 'muon'"),
        ({"precision": "fp16"}, "precision is 'fp16'; input should be 'auto', 'bf16' or 'fp32'"),
        ({"imags": 8}, "'imags'; its settings are images, batch"),
        ({"preset": "large"}, "preset 'large' is unknown; known: paper"),
        ({"preset": "tiny"}, "patches have 8 px, the network wants 32"),
    ],
)
def test_wrong_settings_are_named(packed: Cohort, changes: dict, words: str) -> None:
    with pytest.raises(MediError, match=words):
        medi.train(packed, **({"preset": own(), "out": "w"} | changes))
    assert not Path("w").exists()


def test_laptop_presets_name_minutes_that_their_rates_give() -> None:
    """Computed from the rates that the module states, as its text says."""
    from medi.training import presets

    for name, minutes in (("laptop32", "8.1"), ("laptop64", "32")):
        computed = PRESETS[name].recipe.images / presets.LAPTOP[name] / 60
        assert computed == pytest.approx(float(minutes), rel=0.03)
        assert f"About {minutes} minutes on two cores without bf16 units" in " ".join(str(presets.__doc__).split())


def test_costs_of_tiny_trainings_are_not_zero() -> None:
    assert flop(3e-3 * 0.9) == "0.0027 GFLOP"
    assert flop(1.5e9) == "1.5 EFLOP"
