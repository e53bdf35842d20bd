"""Models of inner hold-outs: what they see, what is kept, how a failure is told."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import medi
from medi import InnerModels, MediError
from medi.api import inner_models
from medi.api.recommending import cost_of_models
from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core.progress import Silent
from medi.evaluation.classify.stained import STAINS
from medi.evaluation.encoders import Encoder
from medi.evaluation.recommend import Asked
from medi.models.network import NetworkSettings
from medi.training.cost import Cost
from medi.training.log import Diverged
from medi.training.presets import Preset
from medi.training.recipe import Recipe

OVER = ("class", "site")
MISSING = [("a", "D"), ("b", "A")]
SCHEMA = Schema(Attribute("class", levels=("a", "b")), (Attribute("site", levels=("A", "B", "C", "D")),))
MEANS = Encoder("means", 3, 8, "", "means", lambda images: images.mean(axis=(1, 2)).astype(np.float32))
TINY = Preset(NetworkSettings(size=8, fold=2, channels=(8, 8), layers=1), Recipe(images=16, batch=8, warmup=8))


@pytest.fixture(scope="module")
def held() -> Cohort:
    """Two classes at four sites, 8 px; one combination of each class is for the test alone, and others for it too."""
    rng, rows, images = np.random.default_rng(0), [], []
    for class_ in "ab":
        for site in "ABCD":
            for i in range(8):
                key = f"{class_}{site}{i // 2}"
                split = "test_unseen" if (class_, site) in MISSING else "test_seen" if i > 5 else "train"
                rows.append({"sample_id": f"{key}-{i}", "class": class_, "site": site, "patient": key, "slide": key})
                rows[-1] |= {"split": split, "origin": "real", "image": ""}
                mean = [60 + 60 * (class_ == "b"), 60 + 40 * "ABCD".index(site), 120]
                images.append(rng.normal(mean, 15, (8, 8, 3)).clip(0, 255))
    return Cohort(pd.DataFrame(rows), SCHEMA, Pixels.of(np.array(images, dtype=np.uint8)))


@pytest.fixture(autouse=True)
def _no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test of the verb times a network; here the estimate is a fixed one."""
    monkeypatch.setattr(inner_models, "cost_of", lambda chosen, schema: Cost(1, 1.0, chosen.recipe.images, 100.0))


def models(folder: Path, **changes: int) -> InnerModels:
    return InnerModels.of(folder, preset=TINY, to=10, steps=1, **changes)


def recommended(held: Cohort, with_models: InnerModels | None, **asked: object) -> medi.Recommendation:
    return medi.recommend(held, sets=["real"], heads=["logistic"], encoder=MEANS, with_models=with_models, **asked)


def spied(monkeypatch: pytest.MonkeyPatch, name: str, before: Callable[..., object]) -> None:
    """Let `before` see what a function of the façade is called with."""
    usual = getattr(inner_models, name)

    def called(*args: object, **options: object) -> object:
        before(*args)
        return usual(*args, **options)

    monkeypatch.setattr(inner_models, name, called)


@pytest.mark.slow
def test_a_model_sees_only_what_its_inner_holdout_keeps_p5(
    held: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Cohort] = []
    spied(monkeypatch, "train_split", lambda part, *rest: seen.append(part))
    found = recommended(held, models(tmp_path, draws=2), open_holdout=True)
    train = held.where(split="train")
    folds = Asked.of(train.table, OVER, 0, 2)[0].folds
    assert len(folds) == 2
    ids = train.table["sample_id"].to_numpy()
    for part, (_, left_out, kept) in zip(seen, folds):
        assert not set(part.table["sample_id"]) & set(ids[left_out | kept])
        assert not set(part.table["patient"]) & set(train.table["patient"][left_out | kept])
    for part in seen:
        assert set(part.table["split"]) == {"train"}
    assert seen[-1].table["sample_id"].tolist() == ids.tolist(), "for the true hold-out: all training patches"
    assert len(seen) == len(folds) + 1
    row = found.judged.row("medi", "logistic")
    assert row["reason"] == f"judged with models of {len(folds)} inner hold-outs"
    assert row["needs"] == "a generator"
    assert 0 <= row["value"] <= 1
    assert 0 <= row["true"] <= 1
    assert found.to_frame()["set"].tolist().count("medi") == 1


@pytest.mark.slow
def test_the_same_call_goes_on_after_a_kill_p12(held: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second model is killed in its sampling: what was there is kept, and the images are those of one go."""

    def kill(*args: object) -> None:
        if len(list(tmp_path.glob("broken/*/model.safetensors"))) == 2:
            raise KeyboardInterrupt

    train = held.where(split="train")

    def made(name: str) -> list[np.ndarray]:
        (found,) = models(tmp_path / name, draws=2).generated(train, OVER, MEANS, 0, False, None, Silent())
        return [rows.features for rows in found.added]

    with monkeypatch.context() as here:
        spied(here, "sample_part", kill)
        with pytest.raises(KeyboardInterrupt):
            made("broken")
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("broken/*/model.safetensors")}
    again, whole = made("broken"), made("whole")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert all(map(np.array_equal, again, whole))
    told = cost_of_models(held, models(tmp_path / "whole", draws=2))
    assert told == "models: 2 (medi), all trained and sampled before"


def test_the_cost_counts_the_classifiers_that_guide(
    held: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for each inner hold-out, an hour each here; two candidates are two evaluations."""
    monkeypatch.setattr(inner_models, "seconds_of", lambda settings, schema, size: 3600.0)
    guided = InnerModels.of(tmp_path, preset=TINY, to=10, steps=1, draws=2, guidance={"classifier": 2})
    assert "together about 2 hours" in cost_of_models(held, guided)
    assert "together about 2 hours" not in cost_of_models(held, models(tmp_path, draws=2))


@pytest.mark.slow
def test_a_model_that_fails_is_a_reason_and_no_number_p7(
    held: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def collapse(*args: object) -> None:
        raise Diverged("training has collapsed: the loss was 0.1 and is 7")

    spied(monkeypatch, "train_split", collapse)
    found = recommended(held, models(tmp_path))
    row = found.judged.row("medi", "logistic")
    assert np.isnan(row["value"])
    assert row["reason"].startswith("not judged: the model of medi, inner hold-out 1 of ")
    assert "training has collapsed" in row["reason"]
    without = recommended(held, None).judged.table
    pd.testing.assert_frame_equal(found.judged.table.iloc[:1], without, check_exact=True)


def test_what_no_model_can_learn_is_refused_before_any_work(held: Cohort, tmp_path: Path) -> None:
    features = Cohort(held.table.assign(features="0"), SCHEMA, None, {"features": {"root": "uni.npy"}})
    why = r"a model needs images; this cohort has features alone \(uni.npy\); leave models out, or give a packed cohort"
    with pytest.raises(MediError, match=why):
        cost_of_models(features, models(tmp_path))
    with pytest.raises(MediError, match="patches have 8 px, the network wants 32"):
        recommended(held, InnerModels.of(tmp_path, preset="tiny"))
    with pytest.raises(MediError, match="models of 5 inner hold-outs: there are 1 to 4"):
        recommended(held, models(tmp_path, draws=5))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_images_are_judged_after_stain_normalisation_too(held: Cohort, tmp_path: Path) -> None:
    """Each is embedded once more with its own pixels; where training shows no stain, that is the reason (P7)."""
    train = held.where(split="train")
    plain, normalised = models(tmp_path, draws=1).generated(train, OVER, MEANS, 0, True, None, Silent(), ["reinhard"])
    assert (normalised.name, normalised.by) == ("medi_reinhard", "reinhard")
    transform = STAINS["reinhard"](train.images[:], 0).apply
    for before, after in zip((*plain.added, plain.whole), (*normalised.added, normalised.whole)):
        assert before.table["sample_id"].tolist() == after.table["sample_id"].tolist()
    images = Cohort.load(next(tmp_path.glob("medi-*/samples-*")))
    ids = images.table["sample_id"].tolist()
    means = dict(zip(ids, transform(images.images[:], ids).mean(axis=(1, 2))))
    sets = [rows for rows in (*normalised.added, normalised.whole) if set(rows.table["sample_id"]) <= set(ids)]
    assert any(np.allclose(rows.features, [means[i] for i in rows.table["sample_id"]], atol=1e-3) for rows in sets)
    white = Cohort(train.table, train.schema, Pixels.of(np.full_like(train.images[:], 255)))
    found = models(tmp_path / "white", draws=1).generated(white, OVER, MEANS, 0, False, None, Silent(), ["macenko"])
    assert "no stained tissue in the training patches" in found[1].reason
