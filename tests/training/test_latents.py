"""The store of latents: every view of every patch, once; whole after a kill; another's or a damaged one is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.cohort.turns import VIEWS, dihedral
from medi.core.errors import MediError
from medi.models.autoencoder import Autoencoder
from medi.models.checkpoint import load_tensors
from medi.models.space import LatentSpace
from medi.training import latents as module
from medi.training.latents import HEAD, STORE, check_round_trip, latents_of, opened, place_of
from medi.training.loop import train
from medi.training.recipe import Recipe
from tiny_latents import LATENT, NETWORK, autoencoder, patches, write_autoencoder  # noqa: F401
from tiny_model import SCHEMA


@pytest.fixture
def found(autoencoder: str) -> Autoencoder:  # noqa: F811
    return Autoencoder.open(autoencoder)


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNIT", 8)


@pytest.mark.slow
def test_every_view_is_that_of_the_turned_patch(found: Autoencoder, tmp_path: Path) -> None:
    """Oracle: pixels turned by hand and encoded; statistics by numpy over all of them."""
    images = patches().images[:]
    made = latents_of(patches().images, found, tmp_path)
    assert made.store.shape == (24, VIEWS, 5, 8, 8)
    for turn in (0, 3, 6):
        planes = dihedral(images.transpose(0, 3, 1, 2).astype(np.float32), np.full(24, turn))
        expected = found.encode(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)).astype(np.uint8)).numpy()
        np.testing.assert_allclose(made.store[:, turn], expected, atol=2e-3)
    whole = np.asarray(made.store, dtype=np.float64)
    np.testing.assert_allclose(made.mean, whole.mean(axis=(0, 1, 3, 4)), rtol=1e-9)
    np.testing.assert_allclose(made.std, whole.std(axis=(0, 1, 3, 4)), rtol=1e-6)
    views = made.standardised(LatentSpace(lambda: found.coder, made.mean, made.std))
    seen = views(np.array([3, 3]), np.array([0, 5]))
    raw = np.asarray(made.store[3, 5], dtype=np.float32)
    np.testing.assert_allclose(
        seen[1], (raw - np.array(made.mean)[:, None, None]) / np.array(made.std)[:, None, None] / 2, atol=1e-3
    )


@pytest.mark.slow
def test_a_kill_costs_one_unit(found: Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P12: units that are whole stay, one whose bytes were altered is encoded again, and the store is the same."""
    whole = latents_of(patches().images, found, tmp_path / "whole", 2)
    calls, encode = [], Autoencoder.encode

    def counted(self: Autoencoder, images: np.ndarray) -> torch.Tensor:
        if len(calls) == 2 * 2:
            raise KeyboardInterrupt
        calls.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(Autoencoder, "encode", counted)
    with pytest.raises(KeyboardInterrupt):
        latents_of(patches().images, found, tmp_path / "killed", 2)
    (work,) = (tmp_path / "killed").glob(f"*/unfinished-{STORE}")
    data = np.load(work, mmap_mode="r+")
    data[0, 0, 0, 0, 0] += 1
    data.flush()
    monkeypatch.setattr(Autoencoder, "encode", lambda self, images: calls.append(0) or encode(self, images))
    again = latents_of(patches().images, found, tmp_path / "killed", 2)
    assert calls.count(0) == 2 * 2, "the altered unit and the one that was missing"
    assert (np.asarray(again.store) == whole.store).all()
    assert (again.mean, again.std) == (whole.mean, whole.std)
    latents_of(patches().images, found, tmp_path / "killed", 2)
    assert calls.count(0) == 2 * 2, "a finished store is read"


def test_a_kill_before_the_head_costs_nothing_p12(
    found: Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: all units were encoded again where the store had its name and no head yet."""
    few, pixels = Pixels.of(patches().images[:9]), []
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_checksums", interrupted)
        with pytest.raises(KeyboardInterrupt):
            latents_of(few, found, tmp_path, 1)
    (named,) = tmp_path.glob(f"*/{STORE}")
    before = np.load(named)
    monkeypatch.setattr(Autoencoder, "encode", lambda _, images: pixels.append(len(images)))
    assert (np.asarray(latents_of(few, found, tmp_path, 1).store) == before).all()
    assert pixels == []


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_one_that_another_process_has_just_ended_is_taken(
    found: Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one gives its lock back between our refusal and our look at who holds it."""
    few = patches().select(np.arange(2)).images
    whole = module.whole

    def refused(place: Path) -> None:
        monkeypatch.setattr(module, "whole", whole)
        latents_of(few, found, tmp_path, 1)
        raise MediError(f"{place}: is in use")

    monkeypatch.setattr(module, "whole", refused)
    assert len(latents_of(few, found, tmp_path, 1).store) == 2


def test_it_lies_beside_packed_pixels(found: Autoencoder, tmp_path: Path) -> None:
    patches().save(tmp_path / "packed")
    assert place_of(Cohort.load(tmp_path / "packed").images, tmp_path / "model") == tmp_path / "packed" / "latents"
    assert place_of(patches().images, tmp_path / "model") == tmp_path / "model" / "latents"


def test_stores_of_others_and_damaged_ones_are_refused(found: Autoencoder, tmp_path: Path) -> None:
    latents_of(patches().images, found, tmp_path / "s", 1)
    (place,) = (tmp_path / "s").iterdir()
    other = Autoencoder.open(write_autoencoder(tmp_path / "other", seed=1))
    with pytest.raises(MediError, match="was made with another autoencoder or other weights"):
        opened(place, other)
    with pytest.raises(MediError, match=r"was made with 5 channels, the autoencoder diffusers:.* has 2"):
        opened(place, Autoencoder.open(write_autoencoder(tmp_path / "kl", "AutoencoderKL")))
    data = bytearray((place / STORE).read_bytes())
    data[-1] ^= 1
    (place / STORE).write_bytes(data)
    views = opened(place, found).standardised(LatentSpace(lambda: found.coder, [0.0] * 5, [1.0] * 5))
    views(np.array([0]), np.array([0]))
    with pytest.raises(MediError, match="rows 16 to 23 are damaged; delete this file and run the same `medi train`"):
        views(np.array([23]), np.array([0]))
    head = json.loads((place / HEAD).read_text())
    assert head["views"] == 1


def test_a_poor_round_trip_is_refused(autoencoder: str, found: Autoencoder, tmp_path: Path) -> None:  # noqa: F811
    check_round_trip(found, 28.0, 28.0)
    recipe = Recipe(**LATENT | {"least_psnr": 28.0}, autoencoder=autoencoder)
    with pytest.raises(MediError, match=r"come back with \d+\.\d dB, less than 28, .* lower training.least_psnr"):
        train(patches(), tmp_path / "model", NETWORK, recipe, SCHEMA, 0)
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_training_on_latents_goes_on_bit_for_bit(autoencoder: str, tmp_path: Path) -> None:  # noqa: F811
    """P4; and another autoencoder in the same folder is refused."""
    recipe = Recipe(**LATENT, autoencoder=autoencoder)

    def stop(images: int, total: int) -> None:
        if images == 24:
            raise KeyboardInterrupt

    validation = patches(8)
    whole = train(patches(), tmp_path / "whole", NETWORK, recipe, SCHEMA, 0, validation)
    with pytest.raises(KeyboardInterrupt):
        train(patches(), tmp_path / "cut", NETWORK, recipe, SCHEMA, 0, validation, stop)
    other = Recipe(**LATENT, autoencoder=write_autoencoder(tmp_path / "other", seed=1))
    with pytest.raises(MediError, match="was trained with another"):
        train(patches(), tmp_path / "cut", NETWORK, other, SCHEMA, 0, validation)
    cut = train(patches(), tmp_path / "cut", NETWORK, recipe, SCHEMA, 0, validation)
    first, second = load_tensors(whole), load_tensors(cut)
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])
    assert first[1]["latents"]["mean"] == second[1]["latents"]["mean"]
