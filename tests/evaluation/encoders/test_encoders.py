"""Encoders: one path for real and synthetic (P2), features that depend on nothing but the patch (P3)."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medi.cohort import phantom
from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.evaluation.encoders import COLOUR_TEXTURE, Encoder, Features, cached, embed, embed_share, encoder

HELD_OUT = (
    ("acinar", "Elm"), ("acinar", "Willow"), ("columnar", "Alder"), ("columnar", "Hazel"), ("columnar", "Willow"),
    ("solid", "Birch"), ("solid", "Cedar"), ("solid", "Rowan"), ("spindle", "Birch"), ("spindle", "Maple"),
)  # fmt: skip


@pytest.fixture(scope="module")
def patches() -> Cohort:
    return phantom.fresh([("acinar", "Alder"), ("solid", "Willow"), ("spindle", "Maple")], 4, 0, "test")


@pytest.fixture(scope="module")
def train() -> tuple[Cohort, Features]:
    cohort = phantom.fresh(phantom.COMBINATIONS, 40, 0, "probe 60")
    return cohort, embed(cohort, COLOUR_TEXTURE)


@pytest.fixture(scope="module")
def test() -> tuple[Cohort, Features]:
    cohort = phantom.fresh(phantom.COMBINATIONS, 20, 0, "probe 40")
    return cohort, embed(cohort, COLOUR_TEXTURE)


def probe(features: Features, labels: np.ndarray) -> Pipeline:
    model = LogisticRegression(C=0.1, max_iter=300, class_weight="balanced")
    return make_pipeline(StandardScaler(), model).fit(features, labels)


def of(cohort: Cohort, images: np.ndarray) -> Cohort:
    return Cohort(cohort.table, cohort.schema, Pixels.of(np.ascontiguousarray(images)))


# --- the registry ---


@pytest.mark.slow
def test_features_do_not_depend_on_the_batch_p3(patches: Cohort) -> None:
    whole = embed(patches, COLOUR_TEXTURE)
    for batch in (1, 5):
        assert embed(patches, COLOUR_TEXTURE, batch=batch).tobytes() == whole.tobytes()
    reverse = embed(patches.select(np.arange(len(patches))[::-1].copy()), COLOUR_TEXTURE)
    assert reverse[::-1].tobytes() == whole.tobytes()


def test_real_and_synthetic_come_through_the_same_path_p2(patches: Cohort) -> None:
    synthetic = patches.with_columns(origin="0123456789abcdef", split="train")
    assert embed(synthetic, COLOUR_TEXTURE).tobytes() == embed(patches, COLOUR_TEXTURE).tobytes()


@pytest.mark.parametrize("size", [32, 33, 50, 64])
def test_any_square_size_gives_the_stated_dimension_and_finite_numbers(size: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    images[1:] = np.array([0, 255], dtype=np.uint8)[:, None, None, None]  # constant black and white
    features = COLOUR_TEXTURE.encode(images)
    assert features.shape == (3, COLOUR_TEXTURE.dimension)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_an_unknown_encoder_names_the_known_ones() -> None:
    with pytest.raises(MediError, match=r"'unni'.*colour-texture.*uni2-h"):
        encoder("unni")


@pytest.mark.parametrize("shape", [(1, 32, 40, 3), (1, 16, 16, 3)])
def test_patches_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MediError, match=f"not {shape[1]} x {shape[2]}"):
        COLOUR_TEXTURE.encode(np.zeros(shape, dtype=np.uint8))


def test_progress_counts_every_image_once(patches: Cohort) -> None:
    seen: list[tuple[int, int]] = []
    embed(patches, COLOUR_TEXTURE, batch=5, progress=lambda *at: seen.append(at))
    assert seen == [(5, 12), (10, 12), (12, 12)]


def test_no_patches_give_no_rows(patches: Cohort) -> None:
    assert embed(patches.select(np.array([], dtype=np.int64)), COLOUR_TEXTURE).shape == (0, COLOUR_TEXTURE.dimension)


def test_jpeg_re_encodes_real_and_synthetic_alike_p2(patches: Cohort) -> None:
    coded = encoder("colour-texture", jpeg=75)
    assert coded.name == "colour-texture-jpeg75"
    assert coded.hash != encoder("colour-texture", jpeg=76).hash != COLOUR_TEXTURE.hash
    files = [BytesIO() for _ in range(len(patches))]
    for image, file in zip(patches.images[:], files):
        Image.fromarray(image).save(file, "JPEG", quality=75)
    by_hand = np.stack([np.asarray(Image.open(file)) for file in files])
    assert (by_hand != patches.images[:]).any()
    assert embed(patches, coded).tobytes() == embed(of(patches, by_hand), COLOUR_TEXTURE).tobytes()


# --- features kept in parts: shards, kills, damage ---


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    """The embedded descriptor in batches of two, two of them a part: twelve patches are three parts."""
    monkeypatch.setattr("medi.evaluation.encoders.embedding.PART", 2)
    return replace(COLOUR_TEXTURE, batch=2)


def test_who_ends_last_joins_the_shards(small_parts: Encoder, patches: Cohort, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    assert embed_share(patches, small_parts, tmp_path, (0, 2), lambda *at: seen.append(at)) is None
    assert seen[-1] == (8, 8), "the first and the last of three parts"
    whole = embed_share(patches, small_parts, tmp_path, (1, 2))
    assert whole is not None
    assert whole.tobytes() == embed(patches, COLOUR_TEXTURE).tobytes()
    with pytest.raises(MediError, match="0/2 to 1/2"):
        embed_share(patches, small_parts, tmp_path, (2, 2))


def test_processes_of_torchrun_share_too(
    small_parts: Encoder, patches: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert embed_share(patches, small_parts, tmp_path) is None
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert cached(patches, small_parts, tmp_path).shape == (12, 67), "what is needed at once is made here and now"


def test_a_kill_loses_one_part_p12(small_parts: Encoder, patches: Cohort, tmp_path: Path) -> None:
    def killed(count: int, total: int) -> None:
        seen.append(count)
        if len(seen) == 3:
            raise KeyboardInterrupt

    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        cached(patches, small_parts, tmp_path, killed)
    calls: list[int] = []

    def counted(images: np.ndarray) -> Features:
        calls.append(len(images))
        return COLOUR_TEXTURE.extract(images)

    again = cached(patches, replace(small_parts, extract=counted), tmp_path)
    assert sum(calls) == 8, "the first part was kept"
    assert again.tobytes() == embed(patches, COLOUR_TEXTURE).tobytes()
    assert cached(patches, replace(small_parts, extract=counted), tmp_path).tobytes() == again.tobytes()
    assert sum(calls) == 8, "all parts were kept"


def test_a_damaged_part_is_named(small_parts: Encoder, patches: Cohort, tmp_path: Path) -> None:
    cached(patches, small_parts, tmp_path)
    path = sorted(tmp_path.rglob("*.safetensors"))[1]
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(MediError, match=f"{path.name}.*delete it"):
        cached(patches, small_parts, tmp_path)


@pytest.mark.slow
def test_another_encoder_or_cohort_has_other_parts(small_parts: Encoder, patches: Cohort, tmp_path: Path) -> None:
    cached(patches, small_parts, tmp_path)
    cached(patches, replace(small_parts, hash="0123456789abcdef"), tmp_path)
    cached(patches.select(np.arange(4)), small_parts, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


# --- the embedded descriptor ---


def test_the_constants_are_pinned() -> None:
    """Features of different hashes are not comparable: raise VERSION where code changed, and rerun every figure."""
    assert COLOUR_TEXTURE.hash == "97a4a45ccd9b043b"
    assert 48 <= COLOUR_TEXTURE.dimension <= 80


def test_mean_colour_is_the_first_feature_group(patches: Cohort) -> None:
    means = patches.images[:].astype(np.float64).mean(axis=(1, 2)) / 255 * 12
    np.testing.assert_allclose(embed(patches, COLOUR_TEXTURE)[:, :3], means, rtol=1e-5)


@pytest.mark.parametrize("turn", [lambda a: a[:, ::-1], lambda a: a[:, :, ::-1], lambda a: a.transpose(0, 2, 1, 3)])
def test_flips_and_turns_change_no_feature(turn, patches: Cohort) -> None:
    turned = embed(of(patches, turn(patches.images[:])), COLOUR_TEXTURE)
    np.testing.assert_allclose(turned, embed(patches, COLOUR_TEXTURE), atol=2e-3)


def test_stripes_are_anisotropic_and_noise_is_not() -> None:
    ramp = np.sin(np.arange(32) / 2.0) * 60 + 128
    stripes = np.broadcast_to(ramp[None, None, :, None], (1, 32, 32, 3)).astype(np.uint8)
    noise = np.random.default_rng(0).integers(60, 190, (1, 32, 32, 3), dtype=np.uint8)
    coherence = COLOUR_TEXTURE.encode(np.concatenate([stripes, noise]))[:, -9]  # finest scale
    assert coherence[0] > 4.5
    assert coherence[1] < 1.0


@pytest.mark.slow
def test_probes_read_class_and_site_and_the_site_more_easily(
    train: tuple[Cohort, Features], test: tuple[Cohort, Features]
) -> None:
    accuracy = {
        name: (probe(train[1], train[0].table[name]).predict(test[1]) == test[0].table[name]).mean()
        for name in ("class", "site")
    }
    assert 0.90 <= accuracy["class"] < accuracy["site"]


@pytest.mark.slow
def test_the_site_is_a_shortcut_in_the_cohort_as_collected(
    train: tuple[Cohort, Features], test: tuple[Cohort, Features]
) -> None:
    """Trained on the skewed cohort, a probe fails on combinations it never saw; with every cell filled it does not."""
    collected = phantom.cohort(0, patches=800)
    held = [set(HELD_OUT).__contains__(cell) for cell in zip(collected.table["class"], collected.table["site"])]
    rest = collected.select(~np.array(held))
    unseen = np.array([cell in HELD_OUT for cell in zip(test[0].table["class"], test[0].table["site"])])
    truth = test[0].table["class"][unseen]
    real = probe(embed(rest, COLOUR_TEXTURE), rest.table["class"]).predict(test[1][unseen])
    oracle = probe(train[1], train[0].table["class"]).predict(test[1][unseen])
    assert balanced_accuracy_score(truth, real) < balanced_accuracy_score(truth, oracle) - 0.2
