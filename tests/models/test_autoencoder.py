"""A frozen autoencoder: the same latents at every call and in any batch, as diffusers makes them; what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from medi.cohort.pixels import to_float, to_uint8
from medi.core.errors import MediError
from medi.models.autoencoder import Autoencoder, psnr
from medi.models.space import LatentSpace, turned_patches
from shared_data import SHARED
from tiny_latents import autoencoder, patches, write_autoencoder  # noqa: F401

KINDS = {"AutoencoderTiny": (5, 1.0, 0.0), "AutoencoderKL": (2, 0.18215, 0.1), "AutoencoderDC": (8, 0.5, 0.0)}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Autoencoder]:
    home = tmp_path_factory.mktemp("kinds")
    return {kind: Autoencoder.open(write_autoencoder(home / kind, kind)) for kind in KINDS}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_latents_are_those_of_diffusers(kind: str, opened: dict[str, Autoencoder]) -> None:
    """Oracle: diffusers' own call, the mean of a posterior, shifted and scaled by the config."""
    found, images = opened[kind], patches(10).images[:]
    channels, scale, shift = KINDS[kind]
    module = found.coder.module  # type: ignore[attr-defined]
    with torch.inference_mode():
        given = module.encode(torch.from_numpy(to_float(images)))
        raw = given.latent_dist.mean if kind == "AutoencoderKL" else given[0]
        back = to_uint8(module.decode(raw).sample.numpy())
    latents = found.encode(images)
    assert (found.channels, found.stride, tuple(latents.shape)) == (channels, 2, (10, channels, 8, 8))
    torch.testing.assert_close(latents, (raw - shift) * scale, rtol=1e-4, atol=1e-5)
    assert np.abs(found.decode(latents).astype(int) - back).max() <= 1


def test_a_patch_does_not_depend_on_those_beside_it(opened: dict[str, Autoencoder]) -> None:
    """P3, bitwise: alone, in another order, and decoded so."""
    found, images = opened["AutoencoderTiny"], patches(10).images[:]
    latents = found.encode(images)
    assert torch.equal(found.encode(images[[7]])[0], latents[7])
    assert torch.equal(found.encode(images[::-1]), latents.flip(0))
    assert (found.decode(latents[[9]])[0] == found.decode(latents)[9]).all()


def test_the_hash_is_of_weights_and_settings_not_of_the_place(autoencoder: str, tmp_path: Path) -> None:  # noqa: F811
    home = Path(autoencoder.partition(":")[2])
    first = Autoencoder.open(autoencoder)
    copied = shutil.copytree(home, tmp_path / "copy")
    assert Autoencoder.open(f"diffusers:{copied}").hash == first.hash
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"scaling_factor": 2.0}))
    scaled = Autoencoder.open(f"diffusers:{copied}")
    others = Autoencoder.open(write_autoencoder(tmp_path / "other", seed=1))
    assert len({first.hash, scaled.hash, others.hash}) == 3


def test_the_space_brings_each_channel_to_what_the_network_assumes(opened: dict[str, Autoencoder]) -> None:
    """Mean 0 and deviation .5 where mean and deviation are those of the patches; decoding undoes it."""
    found, images = opened["AutoencoderTiny"], patches().images[:]
    latents = found.encode(images).double()
    mean, std = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3), correction=0)
    space = LatentSpace(lambda: found.coder, mean.tolist(), std.tolist())
    seen = space.encode(images).double()
    torch.testing.assert_close(seen.mean(dim=(0, 2, 3)), torch.zeros(5, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        seen.std(dim=(0, 2, 3), correction=0), torch.full((5,), 0.5, dtype=torch.float64), atol=1e-4, rtol=0
    )
    assert np.abs(space.decode(space.encode(images)).astype(int) - found.round_trip(images)).max() <= 1
    turns = np.arange(24) % 8
    assert (space.views(images, turns) == space.encode(turned_patches(images, turns)).numpy()).all()


def _of_pickle(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.bin")


def _of_another_class(folder: Path) -> None:
    (folder / "config.json").write_text('{"_class_name": "VQModel"}')


def _cut(folder: Path) -> None:
    path = folder / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:500])


def _without_a_weight(folder: Path) -> None:
    path = folder / "diffusion_pytorch_model.safetensors"
    save_file(dict(sorted(load_file(path).items())[1:]), path, metadata={"format": "pt"})


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model_index.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_of_pickle, "no pickle is ever read"),
        (_of_another_class, "holds a VQModel; known classes: AutoencoderKL"),
        (_cut, "cannot be read"),
        (_without_a_weight, "its weights lack decoder"),
        (_without_config, "name the folder vae in it"),
        (shutil.rmtree, "there is no such folder"),
    ],
)
def test_refused(spoil, words: str, autoencoder: str, tmp_path: Path) -> None:  # noqa: F811
    folder = shutil.copytree(autoencoder.partition(":")[2], tmp_path / "spoiled")
    spoil(folder)
    with pytest.raises(MediError, match=words):
        Autoencoder.open(f"diffusers:{folder}")


def test_names_and_sizes_are_refused(opened: dict[str, Autoencoder]) -> None:
    for name in ("vae", "keras:/tmp", "diffusers:"):
        with pytest.raises(MediError, match="write KIND:FOLDER"):
            Autoencoder.open(name)
    with pytest.raises(MediError, match="patches of 15 px are no multiple of its 2 px"):
        opened["AutoencoderKL"].encode(np.zeros((1, 15, 15, 3), dtype=np.uint8))


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "taef2").exists(), reason="needs the weights of ../shared/data/taef2")
def test_taef2_keeps_tissue_of_256_px() -> None:
    """As its README measured (31.7 dB), here on a smooth field of nuclei."""
    from PIL import Image

    fields = sorted((SHARED / "tcga_fields").rglob("*.jpg"))[:2] or sorted((SHARED / "tcga_fields").rglob("*.png"))[:2]
    images = np.stack([np.asarray(Image.open(path).convert("RGB"))[300:556, 300:556] for path in fields])
    found = Autoencoder.open(f"taef2:{SHARED / 'taef2'}")
    assert (found.channels, found.stride) == (32, 8)
    assert psnr(images, found.round_trip(images)) > 28
