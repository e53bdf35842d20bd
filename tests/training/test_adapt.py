"""A level more: old levels bitwise as they were, the vector learned, classes told apart, small files joined."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.models.checkpoint import Checkpoint, load_checkpoint, load_model, load_tensors, save_model
from medi.models.denoiser import Denoiser
from medi.training.adaptation import classes as module
from medi.training.adaptation.adapt import adapt, join
from medi.training.adaptation.classes import class_posteriors, soft_labels
from medi.training.adaptation.learning import AdaptSettings, Task
from medi.training.adaptation.levels import extended, level_vector

QUICK = AdaptSettings(vector_images=64, tune_images=64, batch=16)
TRAINED = {"images": 0, "recipe": {"dropout": 0.1}, "combinations": {"columns": ["class"], "rows": [["a", 9]]}}
TABLE = "conditioning.embeddings.1.table.weight"


@pytest.fixture
def model(denoiser: Denoiser, tmp_path: Path) -> Path:
    return save_model(tmp_path / "base" / "model.safetensors", denoiser, Checkpoint.of(denoiser, **TRAINED))


@pytest.fixture
def patches(cohort: Cohort) -> Cohort:
    """Ten unlabelled patches of pale tissue, two slides' worth; their hospital is no column yet."""
    pixels = seeds.generator("new").integers(100, 200, (10, 8, 8, 3), dtype=np.uint8)
    chosen = cohort.select(np.arange(10))
    table = chosen.table.assign(**{"class": ""}).drop(columns="site")
    return Cohort(table, cohort.schema, Pixels.of(pixels))


@pytest.mark.slow
def test_old_levels_stay_as_they_were(model: Path, patches: Cohort, tmp_path: Path) -> None:
    """Bitwise: every tensor but the table, and every row of the table but the new one."""
    made = adapt(model, patches, "site", "Neu", tmp_path / "new", QUICK)
    old, new = load_model(model)[0].state_dict(), load_model(made.path)[0].state_dict()
    assert made.method == "vector"
    assert load_model(made.path)[0].schema.attribute("site").levels == ("A", "B", "Neu")
    for name in old:
        kept = torch.cat([new[name][:2], new[name][3:]]) if name == TABLE else new[name]
        assert torch.equal(kept, old[name]), name
    assert not torch.equal(new[TABLE][2], old[TABLE][:2].mean(dim=0))


@pytest.mark.slow
def test_the_vector_learns(denoiser: Denoiser, patches: Cohort, tmp_path: Path) -> None:
    """Oracle: patches that the model itself denoises with level B's vector are denoised best at B."""
    known = patches.with_columns(**{"class": "a"})
    path = save_model(tmp_path / "m.safetensors", denoiser, Checkpoint.of(denoiser, **TRAINED))
    short = adapt(path, known, "site", "X", tmp_path / "s", replace(QUICK, vector_images=16))
    long = adapt(path, known, "site", "X", tmp_path / "l", replace(QUICK, vector_images=1600))
    assert long.record["held_back_loss"]["vector"] < short.record["held_back_loss"]["vector"]


@pytest.mark.slow
def test_provenance_stands_in_the_checkpoint(model: Path, patches: Cohort, tmp_path: Path) -> None:
    made = adapt(model, patches, "site", "Neu", tmp_path / "new", QUICK)
    found = load_checkpoint(made.path)
    record = found.adaptations[0]
    assert record == made.record | {"settings": record["settings"]}
    assert record["base"] == load_checkpoint(model).hash
    assert (record["patches"], record["unlabelled"], record["data"]) == (
        10,
        10,
        patches.with_columns(site="Neu").digest(),
    )
    assert found.combinations == TRAINED["combinations"], "what training saw"


@pytest.mark.slow
def test_what_denoises_the_held_back_patches_best_is_kept(model, patches, cohort, tmp_path, monkeypatch) -> None:
    """The vector, low-rank changes and all weights are compared on the same draws, of new patches and of old ones."""
    losses = {}
    real = Task.loss

    def spy(task, denoiser, given):
        losses.setdefault(len(given), []).append(real(task, denoiser, given))
        return losses[len(given)][-1]

    monkeypatch.setattr(Task, "loss", spy)
    made = adapt(model, patches, "site", "Neu", tmp_path / "new", QUICK, cohort)
    (held,) = [values for n, values in losses.items() if n != len(cohort)]
    methods = ("vector", "low_rank", "tuned")
    assert made.record["held_back_loss"] == dict(zip(methods, held))
    assert made.method == methods[int(np.argmin(held))]
    assert made.record["old_loss"] == dict(zip(methods, losses[len(cohort)]))
    assert len(set(losses[len(cohort)])) == 3, "each has a drift of its own"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vector", "low_rank", "tuned"])
def test_each_method_leaves_a_plain_model(method: str, model, patches, cohort, tmp_path, monkeypatch) -> None:
    """Its small file, where it has one, gives the same model back; all weights have none."""
    losses = iter([float(kind != method) for kind in ("vector", "low_rank", "tuned")] * 2)
    monkeypatch.setattr(Task, "loss", lambda task, denoiser, given: next(losses))
    made = adapt(model, patches, "site", "Neu", tmp_path / "new", QUICK, cohort)
    assert made.method == method
    adapted, base = load_model(made.path)[0], load_model(model)[0]
    changed = [name for name, value in base.state_dict().items() if not torch.equal(value, adapted.state_dict()[name])]
    assert (set(changed) == {TABLE}) == (method == "vector")
    file = tmp_path / "new" / "level.safetensors"
    assert file.exists() == (method != "tuned")
    if method != "tuned":
        joined = load_model(join(model, [file], tmp_path / "joined"))[0]
        assert all(torch.equal(value, joined.state_dict()[name]) for name, value in adapted.state_dict().items())
        old = adapted.state_dict()[TABLE]
        assert torch.equal(torch.cat([old[:2], old[3:]]), base.state_dict()[TABLE]), "old levels' vectors"


@pytest.mark.slow
def test_levels_are_joined_from_small_files(model: Path, patches: Cohort, tmp_path: Path) -> None:
    """Both vectors as learned, all else as in the base; other models' levels are refused."""
    for name in ("X", "Y"):
        adapt(model, patches, "site", name, tmp_path / name, replace(QUICK, seed=ord(name)))
    files = [tmp_path / name / "level.safetensors" for name in "XY"]
    assert files[0].stat().st_size < 5_000
    joined, found = load_model(join(model, files, tmp_path / "both"))
    assert joined.schema.attribute("site").levels == ("A", "B", "X", "Y")
    for name, path in zip("XY", files):
        assert torch.equal(level_vector(joined, "site", name), load_tensors(path)[0]["vector"])
    assert [record["name"] for record in found.adaptations] == ["X", "Y"]
    with pytest.raises(MediError, match="was learned for another model"):
        join(tmp_path / "X" / "model.safetensors", files[1:], tmp_path / "wrong")
    with pytest.raises(MediError, match="holds no level"):
        join(model, [model], tmp_path / "wrong")
    with pytest.raises(MediError, match="site 'X' exists"):
        join(model, [files[0], files[0]], tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()


@pytest.mark.slow
def test_classes_are_told_apart_by_how_they_denoise(denoiser: Denoiser, patches: Cohort, monkeypatch) -> None:
    """Oracle: for a denoiser that returns the class's own flat image, p(class | x) has a closed form."""
    greys = torch.tensor([-0.02, 0.0, 0.05])
    monkeypatch.setattr(module, "LEVELS", np.geomspace(1.0, 10.0, 400))

    def flat(x, sigma, z):
        return greys[z[:, 0].long()][:, None, None, None].expand_as(x)

    def ids(self_, config, table):
        return torch.tensor(["abc".index(name) for name in table["class"]], dtype=torch.float32)[:, None]

    monkeypatch.setattr(module, "condition_known", ids)
    monkeypatch.setattr(Denoiser, "forward", lambda self_, x, sigma, z: flat(x, sigma, z))
    known = patches.with_columns(**{"class": ["b"] + [""] * 9})
    found = class_posteriors(denoiser, Checkpoint.of(denoiser), known, seed=0)
    x = patches.images[:].astype(np.float64).transpose(0, 3, 1, 2) / 127.5 - 1
    errors = np.stack([((x - grey) ** 2).sum(axis=(1, 2, 3)) for grey in greys.tolist()], axis=1)
    odds = np.exp(-errors * (1 - 1 / 100) / 2)  # the integral of 1 / sigma^2 over ln sigma from 1 to 10
    expected = odds / odds.sum(axis=1, keepdims=True)
    assert found[0].tolist() == [0, 1, 0], "known"
    np.testing.assert_allclose(found[1:], expected[1:], atol=0.02)


def test_soft_labels_are_in_proportion(patches: Cohort) -> None:
    odds = np.tile([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.3, 0.3, 0.4]], (4, 1))[:10]
    copied = soft_labels(patches, ("a", "b", "c"), odds)
    found = copied.table.groupby([np.repeat(np.arange(10), 8), "class"]).size().unstack(fill_value=0)
    assert found.to_numpy()[:3].tolist() == [[4, 4, 0], [8, 0, 0], [3, 2, 3]]
    assert (np.abs(found.to_numpy() / 8 - odds) < 1 / 8).all()
    np.testing.assert_array_equal(copied.images[[0, 8]], patches.images[[0, 1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "A"}, "site 'A' exists; known levels: A, B; choose another name"),
        ({"name": ""}, "site '' is a spelling of missing"),
        ({"attribute": "age"}, "age is a number"),
        ({"attribute": "stain"}, "'stain' is no attribute"),
        ({"few": 4}, "4 patches are too few to learn a level from; give at least 5"),
        ({"size": 16}, "have 16 px, the model makes 8 px"),
        ({"glass": True}, "s3: 0% of its pixels are tissue .1 of 10 patches under 10%."),
        ({"out": "base"}, "holds a model already"),
        ({"scale": "0.25"}, r"0\.25 micrometres per pixel, the model was trained at 0\.5"),
        (
            {"recipe": {"dropout": 0.0}},
            r"class is not known .row 0., and the model was trained on rows that all have it",
        ),
    ],
)
def test_refused_before_anything_is_written(change, words, denoiser, patches: Cohort, tmp_path: Path) -> None:
    config = TRAINED | {"mpp": 0.5} | ({"recipe": change["recipe"]} if "recipe" in change else {})
    model = save_model(tmp_path / "base" / "model.safetensors", denoiser, Checkpoint.of(denoiser, **config))
    before = model.read_bytes()
    images = patches.images[:]
    if "glass" in change:
        images[3] = 245
    if "size" in change:
        images = images.repeat(2, axis=1).repeat(2, axis=2)
    table = patches.table.assign(mpp=change.get("scale", ""))
    given = Cohort(table, patches.schema, Pixels.of(images)).select(np.arange(change.get("few", 10)))
    out = tmp_path / change.get("out", "new")
    with pytest.raises(MediError, match=words):
        adapt(model, given, change.get("attribute", "site"), change.get("name", "Neu"), out, QUICK)
    assert model.read_bytes() == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("join_", ["concat", "additive", "linear"])
def test_every_join_takes_a_level(tiny, schema, join_: str) -> None:
    """z of the old levels is the same number."""
    base = Denoiser(replace(tiny, join=join_), schema)
    more = extended(base, "class", "d")
    codes = {"class": torch.tensor([0, 2, -1]), "site": torch.tensor([0, 1, -1]), "age": torch.tensor([0.0, 1.0, 2.0])}
    assert torch.equal(more.conditioning(codes), base.conditioning(codes))
    torch.testing.assert_close(
        level_vector(more, "class", "d"), base.conditioning.embeddings[0].table.weight[:3].mean(0)
    )
