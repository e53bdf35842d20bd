"""The road of pixels is the road of latents: sampler, guidance, transfer, adaptation, app and export share it."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from command_line import Medi, fine
from medi.api.decoded import round_trips
from medi.api.measures import fidelity
from medi.app.lone_model import LoneModel
from medi.app.making import Made, Wish
from medi.app.making import sample as sample_in_app
from medi.cohort import phantom
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.progress import Silent
from medi.evaluation.fidelity.compare import halves
from medi.export.export import export
from medi.models.autoencoder import Autoencoder
from medi.models.checkpoint import load_checkpoint, load_model, save_model
from medi.sampling.generate import generate
from medi.sampling.guidance import Guidance
from medi.sampling.sampler import SamplerSettings, sample_images
from medi.sampling.transfer import Bridge, TransferSettings, at_levels, transfer
from medi.training.adaptation.adapt import adapt
from medi.training.adaptation.learning import AdaptSettings
from medi.training.presets import PRESETS, Preset
from medi.training.recipe import Recipe
from shared_data import SHARED
from tiny_latents import NETWORK, SIZE, autoencoder, latent_model, patches  # noqa: F401

SETTINGS = SamplerSettings(steps=3, batch=4, precision="fp32")


@pytest.fixture
def rows() -> Any:
    return patches(6).table


@pytest.mark.slow
def test_sample_i_is_sample_i(latent_model: Path, rows: Any, tmp_path: Path) -> None:  # noqa: F811
    """P3: alone, and by any shards; patches of the full size come out, and their cohort names the autoencoder."""
    denoiser, checkpoint = load_model(latent_model)
    together = sample_images(denoiser, rows, 3, SETTINGS)
    assert together.shape == (6, SIZE, SIZE, 3)
    assert (sample_images(denoiser, rows.iloc[[5]], 3, SETTINGS)[0] == together[5]).all()
    assert generate(latent_model, rows, tmp_path / "s", 3, SETTINGS, shard=(1, 2)) is None
    made = generate(latent_model, rows, tmp_path / "s", 3, SETTINGS, shard=(0, 2))
    assert made is not None
    assert (made.images[:] == together).all()
    assert made.info["latents"]["hash"] == checkpoint.latents["hash"] == Autoencoder.open(
        checkpoint.latents["autoencoder"]
    ).hash  # fmt: skip


@pytest.mark.slow
def test_guidance(latent_model: Path, rows: Any) -> None:  # noqa: F811
    denoiser, _ = load_model(latent_model)
    plain = sample_images(denoiser, rows, 3, SETTINGS)
    none, strong = (replace(SETTINGS, guidance=Guidance({"class": weight})) for weight in (0.0, 200.0))
    assert (sample_images(denoiser, rows, 3, none) == plain).all()
    assert (sample_images(denoiser, rows, 3, strong) != plain).any()


@pytest.mark.slow
def test_another_space_guides_nothing_and_nothing_is_clipped(latent_model: Path, rows: Any, tmp_path: Path) -> None:  # noqa: F811
    denoiser, checkpoint = load_model(latent_model)
    mean = [value + 1 for value in checkpoint.latents["mean"]]
    worse = save_model(
        tmp_path / "w.safetensors", denoiser, replace(checkpoint, latents=checkpoint.latents | {"mean": mean})
    )
    auto = replace(SETTINGS, guidance=Guidance(autoguidance=0.5))
    with pytest.raises(MediError, match="works on other latents"):
        generate(latent_model, rows, tmp_path / "s", 0, auto, worse=worse)
    with pytest.raises(MediError, match="latents have no bounds; take ddim"):
        generate(latent_model, rows, tmp_path / "s", 0, replace(SETTINGS, solver="ddim_clipped"))
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_transfer(latent_model: Path, tmp_path: Path) -> None:  # noqa: F811
    """Back to its own level a patch comes as the autoencoder's round trip gives it; another level is a cohort."""
    denoiser, checkpoint = load_model(latent_model)
    known = patches(6).with_columns(site="A", age="1")
    bridge = Bridge(denoiser, checkpoint, TransferSettings(steps=40, strength=0.3, batch=6, solver="heun"))
    back = bridge.render(bridge.invert(known.images[:], known.table), known.table)
    round_trip = Autoencoder.open(checkpoint.latents["autoencoder"]).round_trip(known.images[:])
    assert np.abs(back.astype(int) - round_trip).mean() < 1
    asked = at_levels(known, denoiser.schema, "site", ["B"])
    made = transfer(latent_model, known, asked, tmp_path / "t", TransferSettings(steps=2, batch=4))
    assert made is not None
    assert made.images[:].shape == (6, SIZE, SIZE, 3)


@pytest.mark.slow
def test_adaptation(latent_model: Path, rows: Any, tmp_path: Path) -> None:  # noqa: F811
    """A new level, its classes not known; the adapted model samples in the same space."""
    new = patches(6).with_columns(site="Neu", **{"class": ""})
    settings = AdaptSettings(vector_images=16, tune_images=16, batch=8)
    made = adapt(latent_model, new, "site", "Neu", tmp_path / "new", settings)
    denoiser, checkpoint = load_model(made.path)
    assert checkpoint.latents == load_model(latent_model)[1].latents
    images = sample_images(denoiser, rows.assign(site="Neu"), 0, SETTINGS)
    assert images.shape == (6, SIZE, SIZE, 3)


@pytest.mark.slow
def test_app(latent_model: Path, tmp_path: Path) -> None:  # noqa: F811
    bench, told = LoneModel(latent_model, tmp_path), []
    wish = Wish(bench.first.name, {"class": "a", "site": "A", "age": "1"}, steps=2, n=4)
    sample_in_app(bench, wish, told.append)
    (last,) = [found for found in told if isinstance(found, Made) and found.done]
    assert last.images.shape == (4, SIZE, SIZE, 3)


@pytest.mark.slow
def test_export(latent_model: Path, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    """The pipeline holds the autoencoder and gives the images of our own sampler."""
    from diffusers import DiffusionPipeline

    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = export(latent_model, tmp_path / "pipeline", "cancer", untested=True)
    pipe = DiffusionPipeline.from_pretrained(str(folder), trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    denoiser, rows = load_model(latent_model)[0], rows.head(2).assign(site="A", age="1")
    noise = torch.from_numpy(seeds.noise(3, list(rows["noise_id"]), denoiser.settings.shape))
    theirs = pipe(cancer=list(rows["class"]), site="A", age=1.0, latents=noise, num_inference_steps=3, output_type="np")
    ours = sample_images(denoiser, rows, 3, replace(SETTINGS, batch=2))
    assert np.abs(theirs.images.astype(int) - ours).max() <= 1


@pytest.mark.slow
def test_the_autoencoder_goes_with_the_model_or_is_asked_for(latent_model: Path, rows: Any, tmp_path: Path) -> None:  # noqa: F811
    denoiser, checkpoint = load_model(latent_model)
    home = checkpoint.latents["autoencoder"].partition(":")[2]
    gone = replace(checkpoint, latents=checkpoint.latents | {"autoencoder": f"diffusers:{tmp_path / 'gone'}"})
    path = save_model(tmp_path / "m" / "model.safetensors", denoiser, gone)
    with pytest.raises(MediError, match=r"no such folder.*put it there again, or copy it to .*m/autoencoder"):
        generate(path, rows, tmp_path / "s", 3, SETTINGS)
    shutil.copytree(home, tmp_path / "m" / "autoencoder")
    made = generate(path, rows, tmp_path / "s", 3, SETTINGS)
    assert isinstance(made, Cohort)
    assert (made.images[:] == sample_images(denoiser, rows, 3, SETTINGS)).all()


@pytest.mark.slow
def test_the_round_trip_stands_beside_distances(latent_model: Path, autoencoder: str) -> None:  # noqa: F811
    """A floor: other real patches as the autoencoder gives them back; no difference is taken to it."""
    entry, lines = dict(load_checkpoint(latent_model).latents), []
    combinations, over = [("acinar", "Alder"), ("spindle", "Birch")], ["class", "site"]
    real = phantom.fresh(combinations, 40, 0, "real", patches_per_slide=4)
    drawn = phantom.fresh(combinations, 20, 1, "made")
    made = replace(drawn, info={"latents": entry})
    table = fidelity(real, made=made, over=over, n=20, draws=0).tables["fidelity"]
    rows = table[(table["metric"] == "frechet") & (table["scope"] == "combination_mean")].set_index("arm")["value"]
    assert rows["round_trip"] > rows["floor"], "an autoencoder of random weights"
    assert not table[table["metric"] == "frechet_difference"][["arm", "against"]].isin(["round_trip"]).any(axis=None)
    floor = real.select(~halves(real.table, over, 0))
    found = round_trips(real, {"made": made}, over, 20, 0, Silent())["round_trip"]
    assert (found.images[:] == Autoencoder.open(autoencoder).round_trip(floor.images[:])).all()
    shown = Silent()
    shown.line = lines.append  # type: ignore[method-assign]
    other = replace(drawn, info={"latents": entry | {"hash": "0" * 16}})
    assert round_trips(real, {"made": other}, over, 20, 0, shown) == {}
    assert "does not stand beside the distances" in lines[0]
    assert "other weights" in lines[0]


@pytest.mark.slow
def test_the_verb_trains_on_latents_and_says_how_good_they_are(
    medi: Medi,
    autoencoder: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        PRESETS, "tiny16", Preset(NETWORK, Recipe(images=32, batch=8, save_every=8, warmup=8, precision="fp32"))
    )
    table = patches().table.assign(split=["train"] * 20 + ["validation"] * 4)
    replace(patches(), table=table).save(Path("packed"))
    command = ("train", "packed", "--preset", "tiny16", "--images", 16, "--batch", 8, "--autoencoder", autoencoder)
    code, printed = medi(*command)
    assert code == 2
    assert "less than 28" in " ".join(printed.split())
    printed = fine(medi(*command, "--least-psnr", 0))
    assert "the patches come back from" in " ".join(printed.split())
    assert len(list(Path("packed/latents").iterdir())) == 2, "training and validation patches"


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "taef2").exists(), reason="needs the weights of ../shared/data/taef2")
def test_what_is_for_trials_is_not_exported(latent_model: Path, tmp_path: Path) -> None:  # noqa: F811
    denoiser, checkpoint = load_model(latent_model)
    found = Autoencoder.open(f"taef2:{SHARED / 'taef2'}")
    entry = checkpoint.latents | {"autoencoder": found.name, "hash": found.hash, "channels": 32, "stride": 8}
    path = save_model(tmp_path / "m.safetensors", denoiser, replace(checkpoint, latents=entry))
    with pytest.raises(MediError, match="are for trials alone"):
        export(path, tmp_path / "out", untested=True)
    assert not (tmp_path / "out").exists()
