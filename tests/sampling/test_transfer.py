"""A patch at another level: the flow against a closed form, back without change, resumed and stamped as a cohort."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medi.cohort.pixels import Pixels, to_float, to_uint8
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.models.checkpoint import Checkpoint, load_model, save_model
from medi.models.denoiser import Denoiser
from medi.models.level_mix import Mix
from medi.models.missing_conditions import condition_known
from medi.models.network import NetworkSettings
from medi.sampling.transfer import Bridge, TransferSettings, at_levels, filling, transfer

SETTINGS = TransferSettings(steps=4, batch=8)
SIZE, SPREAD = 8, 0.25


class Gaussian(Denoiser):
    """The exact denoiser of N(m_level, SPREAD^2): D = m + s^2 / (s^2 + sigma^2) (x - m); z holds the level's mean."""

    def __init__(self, schema, means: dict[str, float]) -> None:
        super().__init__(NetworkSettings(size=SIZE, fold=2, channels=(8,), layers=1), schema)
        self.means = means

    def conditioning(self, codes, dropped):
        names = self.schema.attribute("site").levels
        table = torch.tensor([self.means[name] for name in names])
        return table[codes["site"]][:, None]

    def forward(self, x, sigma, z):
        mean = z[:, :, None, None]
        keep = SPREAD**2 / (SPREAD**2 + sigma**2)
        return mean + keep[:, None, None, None] * (x - mean)


@pytest.fixture
def model(denoiser: Denoiser, tmp_path: Path) -> Path:
    return save_model(tmp_path / "model.safetensors", denoiser, Checkpoint.of(denoiser, images=0))


@pytest.fixture
def known(cohort: Cohort) -> Cohort:
    """The patches whose site is known."""
    return cohort.where(site=["A", "B"])


def smooth(n: int) -> np.ndarray:
    """Patches of one grey each."""
    grey = seeds.generator("grey").uniform(-0.5, 0.0, (n, 1, 1, 1)).astype(np.float32)
    return to_uint8(np.broadcast_to(grey, (n, 3, SIZE, SIZE)).copy())


@pytest.mark.parametrize("solver", ["heun", "dpm_solver_2m"])
def test_the_flow_of_a_gaussian_moves_the_mean_and_keeps_the_deviation(solver: str, known: Cohort) -> None:
    """Oracle: optimal transport between two Gaussians of one spread is a shift by the difference of their means."""
    gaussian = Gaussian(known.schema, {"A": -0.3, "B": 0.4})
    bridge = Bridge(gaussian, Checkpoint.of(gaussian), TransferSettings(steps=60, batch=8, solver=solver))
    images, rows = smooth(6), known.table.assign(site="A").head(6)
    moved = bridge.render(bridge.invert(images, rows), rows.assign(site="B"))
    expected = to_float(images) + 0.7
    assert np.abs(to_float(moved) - expected).max() < 0.02
    half = bridge.render(bridge.invert(images, rows), rows.assign(site=[Mix({"A": 1.0, "B": 1.0})] * 6))
    assert np.abs(to_float(half) - (to_float(images) + 0.35)).max() < 0.02


def test_strength_is_the_share_of_the_way(known: Cohort) -> None:
    """Oracle: below a top noise level t the flow closes only 1 - sqrt((s^2 + m^2) / (s^2 + t^2)) of the shift."""
    gaussian = Gaussian(known.schema, {"A": -0.3, "B": 0.4})
    images, rows, settings = smooth(4), known.table.assign(site="A").head(4), TransferSettings(steps=90, batch=4)
    for strength in (0.2, 0.4, 0.6):
        half = replace(settings, strength=strength)
        bridge = Bridge(gaussian, Checkpoint.of(gaussian), half)
        moved = bridge.render(bridge.invert(images, rows), rows.assign(site="B"))
        low, top = settings.sigma_min, settings.sigma_min * (settings.sigma_max / settings.sigma_min) ** strength
        share = 1 - np.sqrt((SPREAD**2 + low**2) / (SPREAD**2 + top**2))
        assert half.sigmas()[-1] == pytest.approx(top)
        assert np.abs(to_float(moved) - to_float(images) - 0.7 * share).max() < 0.02


@pytest.mark.slow
def test_without_a_change_the_patch_comes_back(denoiser: Denoiser, known: Cohort) -> None:
    """A network of random weights, a hundred steps: within a grey level."""
    bridge = Bridge(denoiser, Checkpoint.of(denoiser), TransferSettings(steps=100, batch=8))
    images = known.images[slice(0, 8)]
    back = bridge.render(bridge.invert(images, known.table.head(8)), known.table.head(8))
    assert np.abs(back.astype(int) - images).max() <= 1


@pytest.mark.slow
def test_a_cohort_at_other_levels(model: Path, known: Cohort, tmp_path: Path) -> None:
    """Rows say what they were, patients stay (P5), and one patch alone is the same image (P3)."""
    rows = at_levels(known, known.schema, "site", ["A", "B"])
    assert (rows["site"] != rows["translated_from"]).all()
    made = transfer(model, known, rows, tmp_path / "t", SETTINGS)
    assert made is not None
    assert len(made) == len(known)
    assert set(made.table["origin"]) == {load_model(model)[1].hash}
    assert set(made.table["transfer"]) == {"dpm_solver_2m, 4 steps, log 0.02 to 20, 1"}
    sources = known.table.set_index("sample_id").loc[made.table["source"]]
    assert made.table["patient"].tolist() == sources["patient"].tolist()
    assert made.table["translated_from"].tolist() == sources["site"].tolist()
    one = made.table.index[-1]
    alone = known.where(sample_id=made.table["source"][one])
    again = transfer(model, alone, at_levels(alone, alone.schema, "site", ["A", "B"]), tmp_path / "one", SETTINGS)
    np.testing.assert_array_equal(again.images[:][0], made.images[:][one])


@pytest.mark.slow
def test_resumes_after_a_kill_and_joins_shards(model: Path, known: Cohort, tmp_path: Path) -> None:
    """P12, P3: the own level included, each patch inverted once for both targets."""
    rows = at_levels(known, known.schema, "site", ["A", "B"], own=True)
    assert len(rows) == 2 * len(known)
    whole = transfer(model, known, rows, tmp_path / "whole", SETTINGS)

    def stop(done: int, total: int) -> None:
        assert total == len(rows)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer(model, known, rows, tmp_path / "cut", SETTINGS, stop)
    assert transfer(model, known, rows, tmp_path / "cut", SETTINGS).digest() == whole.digest()
    assert transfer(model, known, rows, tmp_path / "s", SETTINGS, shard=(1, 2)) is None
    assert transfer(model, known, rows, tmp_path / "s", SETTINGS, shard=(0, 2)).digest() == whole.digest()
    with pytest.raises(MediError, match=r"another transfer\.strength \(1\.0, now 0\.5\); choose another folder"):
        transfer(model, known, rows, tmp_path / "whole", replace(SETTINGS, strength=0.5))


@pytest.mark.parametrize(
    ("attribute", "levels", "words"),
    [
        ("site", ["C"], "site 'C' .row 0. is unknown; known levels: A, B"),
        ("site", [], "name at least one site to transfer to; known: A, B"),
        ("stain", ["A"], "'stain' is no attribute; known: class, site, age"),
        ("age", ["3"], "age is a number; only attributes with levels"),
    ],
)
def test_wrong_targets(attribute, levels, words, model: Path, known: Cohort, tmp_path: Path) -> None:
    with pytest.raises(MediError, match=words):
        transfer(model, known, at_levels(known, known.schema, attribute, levels), tmp_path / "t", SETTINGS)
    assert not (tmp_path / "t").exists()


@pytest.mark.slow
def test_a_plan_is_filled_from_other_levels(model: Path, known: Cohort, tmp_path: Path) -> None:
    """Each row of the plan gets a patch of its class from elsewhere, each patch once in a combination (P5: its own
    patient); a larger plan repeats the patches of a smaller one."""
    plan = pd.DataFrame({"class": list("aaabc"), "site": list("AABAB")})
    rows = filling(known, known.schema, "site", plan, seed=0)
    assert rows.groupby(["class", "site"]).size().to_dict() == plan.groupby(["class", "site"]).size().to_dict()
    assert (rows["site"] != rows["translated_from"]).all()
    assert rows["sample_id"].is_unique
    sources = known.table.set_index("sample_id").loc[rows["source"]]
    for column, name in (("patient", "patient"), ("class", "class"), ("site", "translated_from")):
        assert rows[name].tolist() == sources[column].tolist()
    smaller = filling(known, known.schema, "site", plan.iloc[[0, 3]], seed=0)
    assert set(smaller["sample_id"]) < set(rows["sample_id"])
    made = transfer(model, known, rows, tmp_path / "t", SETTINGS)
    assert made.table["sample_id"].tolist() == rows["sample_id"].tolist()
    alone = transfer(model, known, rows.tail(1), tmp_path / "one", SETTINGS)
    np.testing.assert_array_equal(alone.images[:][0], made.images[:][-1])
    many = filling(known, known.schema, "site", pd.DataFrame({"class": ["c"] * 99, "site": "B"}), seed=0)
    there = known.table[(known.table["class"] == "c") & (known.table["site"] != "B")]
    assert sorted(many["source"]) == sorted(there["sample_id"]), "all that there are"
    with pytest.raises(MediError, match="c x B: no other site has a patch of c; leave it out of the plan"):
        filling(known.where(site="B"), known.schema, "site", pd.DataFrame({"class": ["c"], "site": "B"}), seed=0)


def test_nothing_to_do(known: Cohort) -> None:
    with pytest.raises(MediError, match="all patches are at site A already"):
        at_levels(known.where(site="A"), known.schema, "site", ["A"])


@pytest.mark.slow
def test_patches_of_another_size_or_magnification(denoiser: Denoiser, known: Cohort, tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.safetensors", denoiser, Checkpoint.of(denoiser, images=0, mpp=0.5))
    large = Cohort(known.table, known.schema, Pixels.of(np.zeros((len(known), 16, 16, 3), dtype=np.uint8)))
    rows = at_levels(known, known.schema, "site", ["A", "B"])
    with pytest.raises(MediError, match="have 16 px, the model makes 8 px; pack them with --size 8"):
        transfer(path, large, rows, tmp_path / "t", SETTINGS)
    with pytest.raises(MediError, match=r"0\.25 micrometres per pixel, the model was trained at 0\.5"):
        transfer(path, known.with_columns(mpp="0.25"), rows, tmp_path / "t", SETTINGS)
    assert transfer(path, known.with_columns(mpp="0.52"), rows, tmp_path / "t", SETTINGS) is not None


@pytest.mark.parametrize("value", [0.0, 1.5])
def test_strength_has_bounds(value: float) -> None:
    with pytest.raises(MediError, match="expected more than 0"):
        TransferSettings(strength=value)


@pytest.mark.slow
def test_what_is_not_known_is_said_as_the_model_learned_it(denoiser: Denoiser, cohort: Cohort) -> None:
    """Its own token where training had it, the null vector of dropout else, and no guess without either."""
    met = {"columns": ["class", "site"], "rows": [["a", "A", 3], ["b", "", 2]]}
    rows = cohort.table.head(3).assign(**{"class": ["a", "", ""], "site": ["", "A", ""], "age": "1"})
    embed = denoiser.conditioning.embeddings
    z = condition_known(denoiser, Checkpoint.of(denoiser, combinations=met, recipe={"dropout": 0.1}), rows)
    width, site_width = denoiser.conditioning.widths[:2]
    null_class, missing_site = embed[0].table.weight[-1], embed[1].table.weight[-2]
    torch.testing.assert_close(z[1:, :width], null_class.expand(2, -1))
    torch.testing.assert_close(z[0, width : width + site_width], missing_site)
    torch.testing.assert_close(z[0, :width], embed[0].table.weight[0])
    with pytest.raises(MediError, match=r"class is not known \(row 1\)"):
        condition_known(denoiser, Checkpoint.of(denoiser, combinations=met, recipe={"dropout": 0.0}), rows)
