"""Style transfer between levels: what it learns, that it goes on bit for bit, and what it refuses (P2, P4, P5, P12)."""

import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.stopping import Stopped
from medi.models.style import STYLE_FILE, Generator, load_style
from medi.sampling.style import style_transfer
from medi.sampling.transfer import at_levels
from medi.training import style
from medi.training.small import STATE
from medi.training.style import Pairs, StyleSettings, train_style

TINY = StyleSettings(images=64, batch=8, width=4, blocks=1, learning_rate=2e-3)
SITES = ("dark", "light")


def cohort_of(pairs: list[tuple[str, str]], each: int = 12, size: int = 8) -> Cohort:
    """Patches of a plain texture, brighter at the site "light"; the class is a stripe that lies or stands."""
    rng, rows = seeds.generator("style patches"), [pair for pair in pairs for _ in range(each)]
    images = rng.integers(0, 20, (len(rows), size, size, 3)) + 60
    for image, (label, site) in zip(images, rows):
        image[(slice(None), 3) if label == "stands" else 3] += 60
        image += 30 * (site == "light")
    table = pd.DataFrame(rows, columns=["class", "site"])
    ids = [f"p{i}" for i in range(len(rows))]
    schema = Schema(Attribute("class", levels=("lies", "stands")), (Attribute("site", levels=(*SITES, "new")),))
    return Cohort(table.assign(sample_id=ids, patient=ids, slide=ids), schema, Pixels.of(images.astype(np.uint8)))


SEEN = [("lies", "dark"), ("stands", "dark"), ("lies", "light")]  # stands x light is not seen


@pytest.fixture(scope="module")
def seen() -> Cohort:
    return cohort_of(SEEN)


@pytest.fixture(scope="module")
def trained(seen: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_style(seen, "site", tmp_path_factory.mktemp("style"), TINY, seed=3)


@pytest.mark.slow
def test_a_level_is_learned_and_the_tissue_kept(tmp_path: Path) -> None:
    """Brightness moves to that of the other site, also for a class never seen there; the stripe stays where it was."""
    settings = StyleSettings(images=2000, batch=8, width=8, blocks=1, learning_rate=5e-3, cycle=1.0, same=1.0)
    seen = cohort_of(SEEN)
    model = train_style(seen, "site", tmp_path / "model", settings, seed=0)
    stands = seen.where(**{"class": "stands"})
    made = style_transfer(model, stands, at_levels(stands, seen.schema, "site", ["light"]), tmp_path / "made")
    before, after = (one.images[:].astype(np.float64).mean(axis=(0, 3)) for one in (stands, made))
    assert 10 < after.mean() - before.mean() < 40
    assert (after.mean(axis=0).argmax(), made.table["class"].unique().tolist()) == (3, ["stands"])
    assert after.mean(axis=0)[3] - np.delete(after.mean(axis=0), 3).mean() > 30


def test_a_generator_begins_without_a_change() -> None:
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(Generator(3, 4, 1)(x, torch.tensor([0, 1]), torch.tensor([2, 1])), x)


@pytest.mark.slow
def test_what_was_interrupted_ends_with_the_same_bits(
    seen: Cohort, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4, P12: SIGTERM after three updates; the same call goes on. Once more where it ended: nothing is done."""

    def advance(images: int, total: int) -> None:
        if images == 24:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="last saved at 24 of 64 images"):
        train_style(seen, "site", tmp_path, TINY, 3, advance)
    assert (tmp_path / STATE).exists()
    assert not (tmp_path / STYLE_FILE).exists()
    found = train_style(seen, "site", tmp_path, TINY, seed=3)
    assert found.read_bytes() == trained.read_bytes()
    assert not (tmp_path / STATE).exists()
    monkeypatch.setattr(style._Game, "update", None)
    assert train_style(seen, "site", tmp_path, TINY, seed=3) == found


def test_another_seed_or_cohort_in_the_same_folder_is_refused(seen: Cohort, trained: Path) -> None:
    with pytest.raises(MediError, match=r"was trained with another seed \(3, now 4\)"):
        train_style(seen, "site", trained.parent, TINY, seed=4)
    with pytest.raises(MediError, match="was trained with another cohort"):
        train_style(cohort_of(SEEN, each=9), "site", trained.parent, TINY, seed=3)


def test_a_pair_is_of_one_class_at_two_levels(seen: Cohort) -> None:
    """What the critic compares has the same classes on both sides; each image depends on its number alone (P4)."""
    pairs = Pairs.of(seen, "site", 0)
    classes, sites = (seen.table[name].to_numpy() for name in ("class", "site"))
    assert pairs.schema.attribute("site").levels == SITES
    assert len(pairs.like) == 2, "stands x dark has no donor at another site"
    for real, others in pairs.like:
        assert set(classes[others]) == set(classes[real]) == {"lies"}
        assert not set(sites[others]) & set(sites[real])
    x, source, real, target = pairs(np.arange(40))
    assert (source != target).all()
    assert set(target.tolist()) == {0, 1}
    again = pairs(np.arange(30, 40))
    assert torch.equal(again[0], x[30:])
    assert torch.equal(again[2], real[30:])


@pytest.mark.slow
def test_images_do_not_depend_on_those_beside_them(seen: Cohort, trained: Path, tmp_path: Path) -> None:
    """P3; patient and slide stay, the origin is the model's hash."""
    rows = at_levels(seen, seen.schema, "site", list(SITES))
    whole = style_transfer(trained, seen, rows, tmp_path / "whole")
    parts = [style_transfer(trained, seen, rows, tmp_path / "parts", shard=(i, 2)) for i in range(2)]
    part = style_transfer(trained, seen, rows.iloc[5:9].reset_index(drop=True), tmp_path / "few")
    assert (part.images[:] == whole.images[5:9]).all()
    assert any(found is not None and (found.images[:] == whole.images[:]).all() for found in parts)
    assert set(whole.table["origin"]) == {load_style(trained).hash}
    assert whole.table["patient"].tolist() == rows["patient"].tolist()


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("lies", "dark"), ("stands", "dark")], "1 level of site in training: there is no other style"),
        ([("lies", "dark"), ("stands", "light")], "site dark shares no class with another site"),
    ],
    ids=["one site", "sites in one class"],
)
def test_where_no_style_can_be_told_there_is_a_reason(
    pairs: list[tuple[str, str]], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(MediError, match=reason):
        train_style(cohort_of(pairs, each=2), "site", tmp_path / "m", TINY, seed=0)
    assert not (tmp_path / "m").exists(), "nothing is left behind"


def test_other_levels_sizes_and_files_are_refused(seen: Cohort, trained: Path, tmp_path: Path) -> None:
    rows = at_levels(seen, seen.schema, "site", ["new"])
    with pytest.raises(MediError, match=r"site 'new' \(row 0\) is unknown; known levels: dark, light"):
        style_transfer(trained, seen, rows, tmp_path / "new")
    with pytest.raises(MediError, match="the patches have 4 px, the model makes 8 px"):
        style_transfer(trained, cohort_of(SEEN, each=1, size=4), rows, tmp_path / "small")
    with pytest.raises(MediError, match="needs an even number of pixels, not 7"):
        train_style(cohort_of(SEEN, each=2, size=7), "site", tmp_path / "odd", TINY, seed=0)
    with pytest.raises(MediError, match="needs at least 1 image"):
        StyleSettings(images=0)
    with pytest.raises(MediError, match="learning_rate above 0 and weights of 0 or more"):
        StyleSettings(cycle=float("nan"))
    with pytest.raises(MediError, match="learning_rate above 0 and weights of 0 or more"):
        StyleSettings(learning_rate=0.0)
