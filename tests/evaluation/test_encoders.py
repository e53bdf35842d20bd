"""Encoders: one path for real and synthetic (P2), features that depend on nothing but the patch (P3)."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from medi.cohort import phantom
from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.errors import MediError
from medi.evaluation.encoders import COLOUR_TEXTURE, ENCODERS, Features, embed, encoder

HELD_OUT = (
    ("acinar", "Elm"), ("acinar", "Willow"), ("columnar", "Alder"), ("columnar", "Hazel"), ("columnar", "Willow"),
    ("solid", "Birch"), ("solid", "Cedar"), ("solid", "Rowan"), ("spindle", "Birch"), ("spindle", "Maple"),
)  # fmt: skip


@pytest.fixture(scope="module")
def patches() -> Cohort:
    return phantom.fresh([("acinar", "Alder"), ("solid", "Willow"), ("spindle", "Maple")], 4, 0, "test")


@pytest.fixture(scope="module")
def train() -> tuple[Cohort, Features]:
    cohort = phantom.fresh(phantom.CELLS, 60, 0, "probe 60")
    return cohort, embed(cohort, COLOUR_TEXTURE)


@pytest.fixture(scope="module")
def test() -> tuple[Cohort, Features]:
    cohort = phantom.fresh(phantom.CELLS, 40, 0, "probe 40")
    return cohort, embed(cohort, COLOUR_TEXTURE)


def probe(features: Features, labels: np.ndarray) -> Pipeline:
    model = LogisticRegression(C=0.1, max_iter=300, class_weight="balanced")
    return make_pipeline(StandardScaler(), model).fit(features, labels)


def of(cohort: Cohort, images: np.ndarray) -> Cohort:
    return Cohort(cohort.table, cohort.schema, Pixels.of(np.ascontiguousarray(images)))


# --- the registry ---


@pytest.mark.parametrize("name", ENCODERS)
def test_features_do_not_depend_on_the_batch_p3(name: str, patches: Cohort) -> None:
    whole = embed(patches, encoder(name))
    for batch in (1, 5):
        assert embed(patches, encoder(name), batch=batch).tobytes() == whole.tobytes()
    reverse = embed(patches.select(np.arange(len(patches))[::-1].copy()), encoder(name))
    assert reverse[::-1].tobytes() == whole.tobytes()


def test_real_and_synthetic_come_through_the_same_path_p2(patches: Cohort) -> None:
    synthetic = patches.with_columns(origin="0123456789abcdef", split="train")
    assert embed(synthetic, COLOUR_TEXTURE).tobytes() == embed(patches, COLOUR_TEXTURE).tobytes()


@pytest.mark.parametrize("size", [32, 33, 50, 64])
@pytest.mark.parametrize("name", ENCODERS)
def test_any_square_size_gives_the_stated_dimension_and_finite_numbers(name: str, size: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    images[1:] = np.array([0, 255], dtype=np.uint8)[:, None, None, None]  # constant black and white
    features = encoder(name).encode(images)
    assert features.shape == (3, encoder(name).dimension)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_an_unknown_encoder_names_the_known_ones() -> None:
    with pytest.raises(MediError, match=r"'uni'.*colour-texture"):
        encoder("uni")


@pytest.mark.parametrize("shape", [(1, 32, 40, 3), (1, 16, 16, 3)])
def test_patches_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MediError, match=f"not {shape[1]} x {shape[2]}"):
        COLOUR_TEXTURE.encode(np.zeros(shape, dtype=np.uint8))


def test_progress_counts_every_image_once(patches: Cohort) -> None:
    seen: list[int] = []
    embed(patches, COLOUR_TEXTURE, batch=5, progress=seen.append)
    assert seen == [5, 5, 2]


def test_no_patches_give_no_rows(patches: Cohort) -> None:
    assert embed(patches.select(np.array([], dtype=np.int64)), COLOUR_TEXTURE).shape == (0, COLOUR_TEXTURE.dimension)


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


def test_probes_read_class_and_site_and_the_site_more_easily(
    train: tuple[Cohort, Features], test: tuple[Cohort, Features]
) -> None:
    accuracy = {
        name: (probe(train[1], train[0].table[name]).predict(test[1]) == test[0].table[name]).mean()
        for name in ("class", "site")
    }
    assert 0.90 <= accuracy["class"] < accuracy["site"]


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
