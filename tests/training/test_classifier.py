"""The classifier that guides: it learns structure and not colour, goes on bit for bit, and refuses (P4, P5, P12)."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.cohort.turns import turned
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.stopping import Stopped
from medi.models.checkpoint import load_tensors, save_tensors
from medi.models.classifier import NoisyClassifier, load_classifier
from medi.models.space import PixelSpace
from medi.training import classifier
from medi.training.classifier import ClassifierSettings, colour_maps, train_classifier
from medi.training.colours import recoloured
from medi.training.small import STATE

TINY = ClassifierSettings(images=64, batch=8, channels=(8, 8))


def cohort_of(pairs: list[tuple[str, str]], each: int = 40, size: int = 8) -> Cohort:
    """Grain of one pixel or of four by four; at the site "dark" its optical densities are half as high again."""
    rng, rows = seeds.generator("classifier patches"), [pair for pair in pairs for _ in range(each)]
    images = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    for image, (label, site) in zip(images, rows):
        block = 1 if label == "fine" else 4
        grain = np.kron(rng.choice([0.3, 0.7], (size // block, size // block)), np.ones((block, block)))
        image[:] = 255 * np.exp(-grain * (1.5 if site == "dark" else 1.0))[..., None]
    ids = [f"p{i}" for i in range(len(rows))]
    schema = Schema(Attribute("class", levels=("fine", "coarse")), (Attribute("site", levels=("dark", "light")),))
    table = pd.DataFrame(rows, columns=["class", "site"]).assign(sample_id=ids, patient=ids, slide=ids)
    return Cohort(table, schema, Pixels.of(images))


CONFOUNDED = [("fine", "dark"), ("coarse", "light")]
SWAPPED = [("fine", "light"), ("coarse", "dark")]


@pytest.fixture(scope="module")
def confounded() -> Cohort:
    return cohort_of(CONFOUNDED)


@pytest.fixture(scope="module")
def trained(confounded: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_classifier(confounded, tmp_path_factory.mktemp("classifier"), TINY, seed=3)


def share_right(judge: NoisyClassifier, patches: Cohort, sigma: float) -> float:
    x = PixelSpace().encode(patches.images[:])
    noisy = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        told = judge.network(noisy, torch.full((len(x),), sigma)).argmax(dim=1)
    return float((told == judge.labels(patches.table)).float().mean())


@pytest.mark.slow
def test_the_class_is_learned_where_the_colour_gives_it_away(confounded: Cohort, tmp_path: Path) -> None:
    """Every class has a site of its own in training. In random colours the grain is learned, without them the site."""
    swapped, found = cohort_of(SWAPPED), {}
    asked = ClassifierSettings(
        images=4000, batch=40, channels=(16,), learning_rate=5e-3, noise_mean=-2.5, noise_std=0.3, colour=0.3
    )
    for settings in (asked, replace(asked, colour=0.0)):
        judge = load_classifier(train_classifier(confounded, tmp_path / f"{settings.colour}", settings, seed=0))
        assert share_right(judge, confounded, 0.1) > 0.9
        found[settings.colour] = share_right(judge, swapped, 0.1)
    short = replace(asked, precision="bf16")
    judge = load_classifier(train_classifier(confounded, tmp_path / "bf16", short, seed=0))
    assert all(weight.dtype == torch.float32 for weight in judge.network.parameters())
    assert share_right(judge, swapped, 0.1) > 0.9, "in bf16 as well"
    x, shown = PixelSpace().encode(confounded.images[:]), judge.labels(confounded.table)
    with torch.inference_mode():
        surer = judge.sureness(x, torch.randn_like(x), shown) > judge.sureness(x, torch.randn_like(x), 1 - shown)
    assert surer.float().mean() > 0.9, "it is surer of the class that an image shows"
    assert found[0.3] > 0.9
    assert found[0.0] < 0.5


def test_the_slope_is_that_of_the_likelihood(trained: Path, confounded: Cohort) -> None:
    """Against central differences along random directions, in inference mode; none where no class is asked for."""
    judge = load_classifier(trained)
    x = PixelSpace().encode(confounded.images[:4])
    rows = confounded.table.iloc[[0, 1, 40, 41]].assign(**{"class": ["fine", "coarse", "coarse", "fine:0.5"]})
    labels, step = judge.labels(rows), torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert labels.tolist() == [0, 1, 1, -1]
    with torch.inference_mode():
        slope = judge.slope(x, 0.5, labels)
    judge.network.double()
    levels = torch.full((4,), 0.5, dtype=torch.float64)
    with torch.no_grad():
        up, down = (judge.network((x + h * step).double(), levels).log_softmax(dim=1) for h in (1e-3, -1e-3))
    change = ((up - down) / 2e-3).gather(1, labels.clamp(min=0)[:, None])[:, 0]
    along = (slope * step).sum(dim=(1, 2, 3))
    torch.testing.assert_close(along[:3].double(), change[:3], rtol=2e-2, atol=2e-4)
    assert not slope[3].any()
    judge.network.float()
    assert judge.range == pytest.approx((0.0337, 2.974), abs=1e-3)
    assert not judge.slope(x, 5.0, labels).any(), "it was hardly shown such noise"


def test_sureness_is_the_likelihood_over_quarter_turns(trained: Path, confounded: Cohort) -> None:
    """The same whichever way an image lies; 0 where no class is asked for."""
    judge = load_classifier(trained)
    x = PixelSpace().encode(confounded.images[:])
    shown, noise = judge.labels(confounded.table), torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = judge.sureness(x, noise, shown)
        lying = judge.sureness(x.rot90(1, (2, 3)), noise.rot90(1, (2, 3)), shown)
        views = np.stack([turned((x + judge.range[0] * noise).movedim(1, -1).numpy(), turn) for turn in range(4)])
        level = torch.full((len(x),), judge.range[0])
        each = [judge.network(torch.from_numpy(v.copy()).movedim(-1, 1), level).log_softmax(dim=1) for v in views]
    expected = torch.stack(each).mean(dim=0).gather(1, shown[:, None])[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found, lying, rtol=1e-4, atol=1e-5)
    assert not judge.sureness(x, noise, torch.full_like(shown, -1)).any()


def test_a_map_of_densities_is_one() -> None:
    """Beer-Lambert: twice the density is the square of the light, and a shift takes the same share from all light."""
    light = torch.tensor([0.2, 0.5, 0.9])
    images = (2 * light - 1)[None, :, None, None].expand(3, 3, 2, 2)
    maps = np.zeros((3, 3, 4), dtype=np.float32)
    maps[0, :, :3], maps[1, :, :3], maps[2, :, :3] = np.eye(3), 2 * np.eye(3), np.eye(3)
    maps[2, :, 3] = np.log(2)
    same, square, half = (recoloured(images, maps)[:, :, 0, 0] + 1) / 2
    torch.testing.assert_close(same, light)
    torch.testing.assert_close(square, light**2)
    torch.testing.assert_close(half, light / 2)


def test_colours_depend_on_the_number_of_the_image_alone() -> None:
    whole, part = colour_maps(np.arange(9), 0, 0.25), colour_maps(np.arange(5, 9), 0, 0.25)
    assert (whole[5:] == part).all()
    assert (colour_maps(np.arange(9), 1, 0.25) != whole).any()
    assert (colour_maps(np.arange(2), 0, 0.0)[:, :, :3] == np.eye(3)).all()


@pytest.mark.slow
def test_what_was_interrupted_ends_with_the_same_bits(
    confounded: Cohort, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4, P12: SIGTERM after three updates; the same call goes on. Once more where it ended: nothing is done."""

    def advance(images: int, total: int) -> None:
        if images == 24:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped, match="last saved at 24 of 64 images"):
        train_classifier(confounded, tmp_path, TINY, 3, advance)
    assert (tmp_path / STATE).exists()
    found = train_classifier(confounded, tmp_path, TINY, seed=3)
    assert found.read_bytes() == trained.read_bytes()
    assert not (tmp_path / STATE).exists()
    monkeypatch.setattr(classifier.ClassifierTraining, "update", None)
    assert train_classifier(confounded, tmp_path, TINY, seed=3) == found


def test_a_file_without_a_precision_was_trained_in_fp32(confounded: Cohort, tmp_path: Path) -> None:
    """Files of before the setting: the same call in fp32 does nothing, in bf16 it is refused."""
    short = replace(TINY, images=8, precision="fp32")
    file = train_classifier(confounded, tmp_path, short, seed=0)
    tensors, config = load_tensors(file)
    del config["classifier"]["precision"]
    before = save_tensors(file, tensors, config).read_bytes()
    assert train_classifier(confounded, tmp_path, short, seed=0).read_bytes() == before
    with pytest.raises(MediError, match=r"another classifier.precision \(fp32, now bf16\)"):
        train_classifier(confounded, tmp_path, replace(short, precision="bf16"), seed=0)


def test_only_classes_with_patches_are_known(confounded: Cohort, tmp_path: Path) -> None:
    """A row without a class is not learned, and a level without a row is not drawn towards."""
    classes = Attribute("class", levels=("coarse", "new", "fine"))
    table = confounded.table.assign(**{"class": ["", *confounded.table["class"][1:]]})
    cohort = replace(confounded, table=table, schema=replace(confounded.schema, classes=classes))
    judge = load_classifier(train_classifier(cohort, tmp_path, replace(TINY, images=8), seed=0))
    assert judge.classes.levels == ("coarse", "fine")
    assert judge.labels(pd.DataFrame({"class": ["fine", "new", "coarse", ""]})).tolist() == [1, -1, 0, -1]


def test_what_cannot_be_learned_is_refused(confounded: Cohort, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(MediError, match=r"was trained with another seed \(3, now 4\)"):
        train_classifier(confounded, trained.parent, TINY, seed=4)
    with pytest.raises(MediError, match="show fewer than two classes"):
        train_classifier(confounded.where(**{"class": "fine"}), tmp_path, TINY, seed=0)
    with pytest.raises(MediError, match="divides by 16, not of 8 px"):
        train_classifier(confounded, tmp_path, ClassifierSettings(channels=(8,) * 5), seed=0)
    with pytest.raises(MediError, match="channels in multiples of 8"):
        ClassifierSettings(channels=(12,))
    with pytest.raises(MediError, match="channels in multiples of 8"):
        ClassifierSettings(channels=())
    for wrong in ({"learning_rate": float("nan")}, {"noise_std": -1.0}, {"colour": -0.1}):
        with pytest.raises(MediError, match="learning_rate and noise_std above 0"):
            ClassifierSettings(**wrong)
    with pytest.raises(MediError, match="no such classifier; `medi classifier` trains one"):
        load_classifier(tmp_path / "nowhere")
