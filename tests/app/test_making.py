"""Samples, translated patches and new levels on request, as the page asks for them."""

from dataclasses import asdict, replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import tiny_run
from medi.app.jobs import Progress, watch
from medi.app.making import (
    AT_ONCE,
    FRAMES,
    Made,
    NewLevel,
    Translation,
    Wish,
    evaluations,
    learn,
    own_patch,
    read_images,
    sample,
    translate,
)
from medi.app.workbench import Workbench
from medi.core.errors import MediError
from medi.models.checkpoint import load_model, save_model
from medi.sampling.guidance import Guidance
from medi.sampling.sampler import SamplerSettings, sample_images
from medi.training.adaptation import adapt
from medi.training.loop import EARLY

CELL = {"class": "LUSC", "site": "Rowan", "grade": "1", "age": "61"}


def made(bench: Workbench, wish: Wish) -> np.ndarray:
    told = [item for item in watch(lambda tell: sample(bench, wish, tell), Event()) if isinstance(item, Made)]
    assert told[-1].nearest is not None
    return told[-1].images


def quick(**changes: Any) -> Wish:
    return Wish(**({"model": "medi", "conditions": CELL, "steps": 2, "n": 6} | changes))


def test_images_come_a_few_at_a_time_and_progress_counts_the_evaluations(bench: Workbench) -> None:
    wish = quick(solver="heun", guidance={"class": 1.0, "site": 0.0})
    told = list(watch(lambda tell: sample(bench, wish, tell), Event()))
    counts = [item.count for item in told if isinstance(item, Progress) and item.what == "sampling"]
    passes = evaluations(SamplerSettings(steps=2, solver="heun")) * 2  # with and without the class
    assert counts == list(range(2 * passes))
    assert [len(item.images) for item in told if isinstance(item, Made)] == [AT_ONCE, 6, 6]


@pytest.mark.slow
def test_a_seed_gives_its_images_and_another_site_shares_their_noise(bench: Workbench) -> None:
    """P3: an image goes by its seed and number alone."""
    first = made(bench, quick())
    np.testing.assert_array_equal(first, made(bench, quick()))
    np.testing.assert_array_equal(first[:5], made(bench, quick(n=5)))
    assert (first != made(bench, quick(seed=1))).any()
    other = quick(conditions=CELL | {"site": "NA"})
    assert (first != made(bench, other)).any()
    assert other.rows()["noise_id"].tolist() == quick().rows()["noise_id"].tolist()


@pytest.mark.slow
def test_the_ends_of_a_mix_are_its_levels(bench: Workbench) -> None:
    """Names that look like mixes or code are levels all the same."""
    evil = CELL | {"site": tiny_run.EVIL}
    np.testing.assert_array_equal(made(bench, quick(mix=("site", tiny_run.EVIL, 0.0))), made(bench, quick()))
    np.testing.assert_array_equal(
        made(bench, quick(mix=("site", tiny_run.EVIL, 1.0))), made(bench, quick(conditions=evil))
    )
    assert (made(bench, quick(mix=("site", tiny_run.EVIL, 0.5))) != made(bench, quick())).any()
    assert quick(mix=("site", "NA", 0.5)).combinations() == [CELL, CELL | {"site": "NA"}]


@pytest.mark.slow
def test_images_are_sampled_as_the_run_samples(tmp_path: Path) -> None:
    """With the run's fresh noise and, where the model's early average lies beside it, guided by that."""
    home = tiny_run.write_run(tmp_path / "run")
    weak, checkpoint = load_model(home / "models" / "medi" / "model.safetensors")
    with torch.no_grad():
        for parameter in weak.parameters():
            parameter.mul_(0.9)
    save_model(home / "models" / "medi" / EARLY, weak, checkpoint)
    sampling = SamplerSettings(
        guidance=Guidance(autoguidance=0.5, interval=(0.01, 5.0)), eta=0.7, eta_interval=(0.1, 10.0)
    )
    content = yaml.safe_load((home / "study.yaml").read_text()) | {"sampling": asdict(sampling)}
    content["sampling"] |= {"eta_interval": [0.1, 10.0]}
    content["sampling"]["guidance"]["interval"] = [0.01, 5.0]
    content["training"] |= {"early_average": 8000}
    (home / "study.yaml").write_text(yaml.safe_dump(content))
    bench = Workbench(home, tmp_path)
    asked, wish = replace(sampling, steps=4, batch=AT_ONCE), quick(n=AT_ONCE, steps=4)  # 40, 3.2, 0.25, 0.02
    rows, model, found = wish.rows(), bench.first.denoiser, made(bench, wish)
    np.testing.assert_array_equal(found, sample_images(model, rows, 0, asked, weak))
    for other in (replace(asked, eta=0.0), replace(asked, guidance=Guidance(autoguidance=1.0))):
        assert (found != sample_images(model, rows, 0, other, weak)).any()
    flow = sample_images(model, rows, 0, replace(asked, solver="heun", eta=0.0), weak)
    np.testing.assert_array_equal(made(bench, replace(wish, solver="heun")), flow)
    (home / "models" / "medi" / EARLY).unlink()
    alone = made(Workbench(home, tmp_path), wish)
    np.testing.assert_array_equal(alone, sample_images(model, rows, 0, replace(asked, guidance=Guidance())))


@pytest.mark.slow
def test_guidance_only_where_training_dropped_conditions(tmp_path: Path) -> None:
    bench = Workbench(tiny_run.write_run(tmp_path / "run", dropout=0.0), tmp_path)
    assert not bench.first.guidable
    with pytest.raises(MediError, match="without conditioning dropout"):
        made(bench, quick(guidance={"class": 1.0}))


def test_an_unknown_level_is_refused(bench: Workbench) -> None:
    with pytest.raises(MediError, match="known levels: LUAD, LUSC"):
        made(bench, quick(conditions=CELL | {"class": "Mars"}))


@pytest.mark.slow
def test_a_translation_starts_at_the_patch_and_ends_at_the_other_level(bench: Workbench) -> None:
    patch = bench.real({"class": "LUAD", "site": "NA"}, 1)
    assert patch is not None
    (found,) = [
        item
        for item in watch(lambda tell: translate(bench.first, patch, "site", "Rowan", tell), Event())
        if isinstance(item, Translation)
    ]
    assert (found.own, found.target, len(found.frames)) == ("NA", "Rowan", FRAMES)
    assert list(found.stops) == ["NA", "Rowan", tiny_run.EVIL]
    np.testing.assert_array_equal(found.frames[0], found.stops["NA"])
    np.testing.assert_array_equal(found.frames[-1], found.stops["Rowan"])
    away = np.abs(found.frames[0].astype(int) - found.patch)
    assert away.mean() < np.abs(found.frames[-1].astype(int) - found.patch).mean(), "its own level gives it back"


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths:
        Image.fromarray(rng.integers(90, 200, (tiny_run.SIZE, tiny_run.SIZE, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.mark.slow
def test_a_new_level_is_learned_beside_the_old_model(
    bench: Workbench, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapt, "AdaptSettings", lambda: SETTINGS)
    before = bench.first.path.read_bytes()
    patches = read_images(pictures, bench.first, {"class": "LUAD"})
    told = list(watch(lambda tell: learn(bench, bench.first, patches, "site", "St. Else", 0, 2, tell), Event()))
    (found,) = [item for item in told if isinstance(item, NewLevel)]
    assert found.model.name == "medi + St. Else"
    assert found.model.path.is_relative_to(bench.scratch)
    assert set(found.samples) == {"LUAD", "LUSC"}
    assert bench.first.path.read_bytes() == before
    wish = quick(model=found.model.name, conditions=CELL | {"site": "St. Else"})
    assert len(made(bench, wish)) == 6
    assert bench.trained(found.model, {"class": "LUSC", "site": "St. Else"}) == 6
    assert "St. Else" not in bench.unseen_levels(found.model, found.model.schema.attribute("site"), "LUSC")


SETTINGS = adapt.AdaptSettings(vector_images=16, tune_images=16, batch=8)


def test_patches_that_do_not_fit_are_refused(bench: Workbench, pictures: list[Path], tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "small.png")
    Image.new("RGB", (32, 16)).save(tmp_path / "long.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(MediError, match=r"small\.png: has another size than 0\.png"):
        read_images([*pictures, tmp_path / "small.png"], bench.first, {})
    with pytest.raises(MediError, match=r"long\.png: has 32 x 16 px, patches must be square"):
        read_images([tmp_path / "long.png"], bench.first, {})
    with pytest.raises(MediError, match=r"text\.png: not readable as an image"):
        read_images([tmp_path / "text.png"], bench.first, {})
    with pytest.raises(MediError, match="the patches have 16 px, the model makes 32 px"):
        own_patch(tmp_path / "small.png", bench.first, {"site": "NA"})
    with pytest.raises(MediError, match="no patches yet"):
        read_images([], bench.first, {})
