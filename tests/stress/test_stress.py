"""A classifier under stress: figures against counts by hand, every kind of classifier, mistakes as one line."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from command_line import Medi, fine, refused
from medi.cohort.pixels import Pixels
from medi.cohort.schema import Attribute, Schema
from medi.cohort.table import Cohort
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.files import read_json, read_table
from medi.models.checkpoint import Checkpoint, save_model
from medi.models.denoiser import Denoiser
from medi.models.network import NetworkSettings
from medi.stress.classifiers import Classifier, Normalisation, load_classifier
from medi.stress.measuring import Asked, calibration_error, measure

SCHEMA = Schema(Attribute("class", levels=("a", "b")), (Attribute("site", levels=("A", "B")),))
MODULE = """
import numpy as np

def red(patches):
    share = patches[..., 0].mean(axis=(1, 2)) / 255
    return np.stack([share, 1 - share], axis=1)

def broken(patches):
    raise KeyError("stain")

def wrong(patches):
    return np.zeros((len(patches), 3))

def infinite(patches):
    return np.full((len(patches), 2), np.nan)
"""


class Tiny(torch.nn.Module):
    """Logits: the mean of each channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


@pytest.fixture
def shown() -> Asked:
    """Four patches, two slides; each is shown at its own site and at the other."""
    table = pd.DataFrame({"sample_id": list("wxyz"), "slide": ["1", "1", "2", "2"], "class": ["a", "a", "b", "b"]})
    table = table.assign(site=["A", "A", "A", "B"])
    before = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])
    rows = pd.DataFrame({"source": list("wxyzwxyz"), "site": ["A", "A", "A", "B", "B", "B", "B", "A"]})
    rows = rows.assign(slide=["1", "1", "2", "2"] * 2, **{"class": ["a", "a", "b", "b"] * 2})
    floor = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]])
    carried = np.array([[0.2, 0.8], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4]])
    own = np.array([True] * 4 + [False] * 4)
    return Asked(("a", "b"), table, before, rows, np.concatenate([floor, carried]), np.tile(np.arange(4), 2), own)


def pick(table: pd.DataFrame, **wanted: str) -> float:
    row = table[np.logical_and.reduce([table[name] == value for name, value in wanted.items()])]
    assert len(row) == 1
    return float(row["value"].iloc[0])


@pytest.mark.slow
def test_figures_against_counts_by_hand(shown: Asked) -> None:
    table = measure(shown, "site", seed=0)
    everything = {"class": "", "level": ""}
    assert pick(table, metric="flip_rate", kind="change", **everything) == 2 / 4
    assert pick(table, metric="flip_rate", kind="floor", **everything) == 1 / 4
    assert pick(table, metric="excess_flips", kind="change", **everything) == 1 / 4
    assert pick(table, metric="flip_rate", kind="change", **{"class": "a", "level": ""}) == 1.0
    assert pick(table, metric="flip_rate", kind="change", **{"class": "", "level": "B"}) == pytest.approx(2 / 3)
    assert pick(table, metric="flip_rate", kind="change", **{"class": "b", "level": "A"}) == 0
    assert pick(table, metric="score_change", kind="change", **everything) == pytest.approx((0.7 + 0.3 + 0 + 0.1) / 4)
    assert pick(table, metric="accuracy", kind="as is", **everything) == 3 / 4
    assert pick(table, metric="accuracy", kind="change", **everything) == 1 / 4
    assert pick(table, metric="brier", kind="as is", **{"class": "", "level": "B"}) == pytest.approx(2 * 0.7**2)
    row = table[(table["metric"] == "flip_rate") & (table["class"] == "") & (table["level"] == "")]
    assert (row["n_slides"] == 2).all()
    assert (row["low"] <= row["value"]).all()


def test_calibration_error_against_its_definition() -> None:
    rng = seeds.generator("calibration")
    confidence, right = rng.random(500), rng.integers(0, 2, 500).astype(float)
    edges = np.linspace(0, 1, 16)
    expected = 0.0
    for low, high in pairwise(edges):
        inside = (confidence >= low) & (confidence < high)
        expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(confidence, right) == pytest.approx(expected)
    assert np.isnan(calibration_error(np.empty(0), np.empty(0)))


@pytest.fixture
def verb(medi: Medi) -> Medi:
    """medi in a folder with a model, a cohort of ten patches and a file of classifiers."""
    torch.manual_seed(0)
    denoiser = Denoiser(NetworkSettings(size=8, fold=4, channels=(8,), layers=1), SCHEMA)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(Path("m/model.safetensors"), denoiser, Checkpoint.of(denoiser, mpp=0.5))
    images = seeds.generator("stress patches").integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    table = pd.DataFrame(
        {"sample_id": [f"s{i}" for i in range(10)], "class": ["a", "b"] * 5, "site": ["A"] * 6 + ["B"] * 4}
    )
    Cohort(table.assign(patient="", slide=""), SCHEMA, Pixels.of(images)).save(Path("c"))
    Path("mine.py").write_text(MODULE)
    return medi


@pytest.mark.slow
def test_an_audit_from_the_command_line(verb: Medi) -> None:
    """Tables, worst pairs, a page without anything from outside; done again nothing is translated again."""
    command = ("stress", "mine.py:red", "c", "--model", "m", "--steps", 2, "--out", "o")
    assert "10 translated patches" in fine(verb(*command))
    results, table = read_json(Path("o/results.json")), read_table(Path("o/tables/stress.parquet"))
    assert (results["patches"], results["translated"], results["levels"]) == (10, 10, ["A", "B"])
    assert set(table["kind"]) == {"change", "floor", "as is"}
    worst = Cohort.load(Path("o/worst"))
    assert worst.table["view"].tolist() == ["as is", "back", "translated"] * 10
    made = Cohort.load(Path("o/transferred"))
    third = worst.table.iloc[2]
    at = made.table.index[(made.table["source"] == third["source"]) & (made.table["site"] == third["site"])]
    np.testing.assert_array_equal(worst.images[[2]], made.images[at.to_numpy()])
    page = Path("o/stress.html").read_text()
    assert "mine.py:red under stress" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    before = Path("o/transferred/pixels.npy").stat().st_mtime_ns
    fine(verb(*command))
    assert Path("o/transferred/pixels.npy").stat().st_mtime_ns == before
    Path("other.py").write_text(MODULE)
    other = verb("stress", "other.py:red", *command[2:])
    refused(other, "o: holds another stress test: classifier mine.py:red, now other.py:red; choose another --out")


@pytest.mark.parametrize(
    ("classifier", "words"),
    [
        ("mine.py:broken", "mine.py:broken: raised KeyError on patches [10, 8, 8, 3] of uint8: 'stain'"),
        (
            "mine.py:wrong",
            "mine.py:wrong: returned shape [10, 3] for 10 patches, expected [10, 2]: a score for each of a, b",
        ),
        ("mine.py:infinite", "mine.py:infinite: returned scores that are not finite"),
        ("mine.py:none", "mine.py: has no function 'none'"),
        ("absent.py:red", "absent.py: no such file"),
        ("no_such_module:red", "no_such_module: cannot be imported (ModuleNotFoundError"),
        ("absent.pt", "absent.pt: no such file"),
        ("mine.pt", "mine.pt: not readable as TorchScript"),
        ("model.bin", "classifier 'model.bin': expected FILE.onnx"),
    ],
)
def test_a_classifier_that_cannot_be_asked(classifier: str, words: str, verb: Medi) -> None:
    Path("mine.pt").write_bytes(b"no model")
    refused(verb("stress", classifier, "c", "--model", "m", "--out", "o"), words)
    assert not Path("o").exists()


@pytest.mark.slow
def test_patches_that_the_model_cannot_carry(verb: Medi) -> None:
    """Another size, another magnification, no site of their own."""
    cohort = Cohort.load(Path("c"))
    double = cohort.images[:].repeat(2, axis=1).repeat(2, axis=2)
    Cohort(cohort.table, cohort.schema, Pixels.of(double)).save(Path("large"))
    cohort.with_columns(mpp="0.25").save(Path("fine"))
    for folder, words in (("large", "have 16 px, the model makes 8 px"), ("fine", "0.25 micrometres per pixel")):
        refused(verb("stress", "mine.py:red", folder, "--model", "m", "--out", "o"), words)
    refused(verb("stress", "mine.py:red", "none", "--model", "m", "--out", "o"), "none: no such file or folder")
    assert not Path("o").exists()


def test_levels_that_nobody_knows(verb: Medi) -> None:
    refused(verb("stress", "mine.py:red", "c", "--model", "m", "--to", "Mars", "--out", "o"), "site 'Mars'")
    refused(
        verb("stress", "mine.py:red", "c", "--model", "m", "--mean", "1,2", "--out", "o"), "mean and std need three"
    )
    assert not Path("o").exists()


def test_torchscript_and_onnx_say_the_same_as_torch(tmp_path: Path) -> None:
    """Both get float32 [n, 3, h, w], normalised; logits become probabilities."""
    images = seeds.generator("torch").integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    normalisation = Normalisation((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    x = torch.from_numpy(normalisation(images))
    np.testing.assert_allclose(x[1, 2, 3, 4].item(), (images[1, 3, 4, 2] / 255 - 0.3) / 0.1, rtol=1e-5)
    expected = Tiny()(x).softmax(dim=1).numpy()
    torch.jit.script(Tiny()).save(str(tmp_path / "t.pt"))
    (tmp_path / "t.onnx").write_bytes(tiny_onnx())
    for name in ("t.pt", "t.onnx"):
        found = load_classifier(str(tmp_path / name), ("a", "b", "c"), normalisation).probabilities(images)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def tiny_onnx() -> bytes:
    """Tiny as an ONNX model, in protobuf by hand: y = Flatten(GlobalAveragePool(x)) of opset 13."""

    def field(number: int, value: int | str | bytes) -> bytes:
        if isinstance(value, int):
            return bytes([number << 3, value])
        data = value.encode() if isinstance(value, str) else value
        length = [len(data)] if len(data) < 128 else [len(data) & 127 | 128, len(data) >> 7]
        return bytes([number << 3 | 2, *length]) + data

    def node(source: str, target: str, operator: str) -> bytes:
        return field(1, field(1, source) + field(2, target) + field(4, operator))

    def tensor(name: str, *sizes: int) -> bytes:
        shape = b"".join(field(1, field(1, size) if size else field(2, "n")) for size in sizes)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    nodes = node("x", "m", "GlobalAveragePool") + node("m", "y", "Flatten")
    graph = nodes + field(2, "g") + field(11, tensor("x", 0, 3, 8, 8)) + field(12, tensor("y", 0, 3))
    return field(1, 8) + field(7, graph) + field(8, field(2, 13))


def test_probabilities_stay_and_logits_are_softmaxed() -> None:
    images = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    as_is = Classifier("p", ("a", "b"), lambda x: np.array([[0.3, 0.7], [1.0, 0.0]]))
    assert as_is.probabilities(images).tolist() == [[0.3, 0.7], [1.0, 0.0]]
    logits = Classifier("l", ("a", "b"), lambda x: np.array([[0.0, np.log(3)], [5.0, 5.0]]))
    np.testing.assert_allclose(logits.probabilities(images), [[0.25, 0.75], [0.5, 0.5]])


@pytest.mark.slow
def test_a_probe_of_ours(tmp_path: Path) -> None:
    """Its probabilities pick the class that its own predict picks."""
    from medi.cohort import phantom
    from medi.evaluation.classify.probes import Probe
    from medi.evaluation.encoders import embedded, encoder

    cohort = phantom.fresh([("acinar", "Alder"), ("spindle", "Birch")], 20, 0, "probe")
    cohort.save(tmp_path / "c")
    made = load_classifier(f"probe:{tmp_path / 'c'}", (), seed=0)
    assert made.classes == ("acinar", "spindle")
    rows = embedded(cohort, encoder("colour-texture"))
    probe = Probe.fit(rows, over=("class", "site"), seed=0)
    found = np.array(made.classes)[made.probabilities(cohort.images[:]).argmax(axis=1)]
    assert found.tolist() == probe.predict(rows.features).tolist()
    phantom.fresh([("acinar", "Alder")], 5, 0, "probe").save(tmp_path / "one")
    with pytest.raises(MediError, match="needs patches of two classes"):
        load_classifier(f"probe:{tmp_path / 'one'}", ())
