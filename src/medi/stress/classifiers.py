"""A user's classifier, wherever it comes from, as one function from patches to class probabilities."""

import importlib
import importlib.util
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Float32, Float64

from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.types import Images
from medi.evaluation.splits import TRAIN, has_class, is_split

if TYPE_CHECKING:
    from medi.evaluation.classify.probes import Probe
    from medi.evaluation.features import Embedded

Scores = Float64[np.ndarray, "n k"]
TORCHSCRIPT = (".pt", ".pth", ".ts", ".torchscript")
ROUNDING = 1e-3  # of a sum of probabilities


@dataclass(frozen=True)
class Classifier:
    """`scores` gives an array [n, k] for uint8 patches [n, h, w, 3]: probabilities, or logits (then soft-maxed), in
    the order of `classes`."""

    name: str
    classes: tuple[str, ...]
    scores: Callable[[Images], Any]

    def probabilities(self, images: Images, batch: int = 256) -> Scores:
        """Probabilities float64 [n, k]; what the classifier raises or returns wrongly is one MediError."""
        starts = range(0, len(images), batch)
        return _probabilities(np.concatenate([self._ask(images[start : start + batch]) for start in starts]))

    def _ask(self, images: Images) -> Scores:
        try:
            found = np.asarray(self.scores(images), dtype=np.float64)
        except MediError:
            raise
        except Exception as error:
            raise MediError(
                f"{self.name}: raised {type(error).__name__} on patches {list(images.shape)} of uint8: {_line(error)}"
            ) from error
        expected = (len(images), len(self.classes))
        if found.shape != expected:
            raise MediError(
                f"{self.name}: returned shape {list(found.shape)} for {len(images)} patches, expected "
                f"{list(expected)}: a score for each of {', '.join(self.classes)}"
            )
        if not np.isfinite(found).all():
            raise MediError(f"{self.name}: returned scores that are not finite")
        return found


def _probabilities(scores: Scores) -> Scores:
    """Rows that are no probabilities are logits."""
    if (scores >= 0).all() and np.abs(scores.sum(axis=1) - 1).max(initial=0) < ROUNDING:
        return scores
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Normalisation:
    """What TorchScript and ONNX classifiers are shown: float32 [n, 3, h, w], (patch / 255 - mean) / std."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise MediError(f"mean and std need three numbers each, std above 0, not {self.mean} and {self.std}")

    def __call__(self, images: Images) -> Float32[np.ndarray, "n 3 h w"]:
        scaled = (images / np.float32(255) - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def load_classifier(
    where: str, classes: Sequence[str], normalisation: Normalisation = Normalisation(), seed: int = 0
) -> Classifier:
    """FILE.onnx, FILE.pt (TorchScript), FILE.py:FUNCTION or MODULE:FUNCTION, or probe:COHORT[:ENCODER].

    A function takes uint8 patches [n, h, w, 3]. A probe of ours is trained here on the training patches of a packed
    cohort. `classes` names the scores in their order; a probe has its own.
    """
    suffix = Path(where).suffix.lower()
    if where.startswith("probe:"):
        return _probe(where.removeprefix("probe:"), seed)
    if suffix == ".onnx":
        return Classifier(where, tuple(classes), _onnx(_existing(where), normalisation))
    if suffix in TORCHSCRIPT:
        return Classifier(where, tuple(classes), _torchscript(_existing(where), normalisation))
    if ":" in where:
        return Classifier(where, tuple(classes), _function(*where.rsplit(":", 1)))
    raise MediError(
        f"classifier {where!r}: expected FILE.onnx, FILE.pt (TorchScript), FILE.py:FUNCTION, "
        "MODULE:FUNCTION or probe:COHORT"
    )


def _existing(where: str) -> Path:
    if not Path(where).is_file():
        raise MediError(f"{where}: no such file")
    return Path(where)


def _onnx(path: Path, normalisation: Normalisation) -> Callable[[Images], Any]:
    if importlib.util.find_spec("onnxruntime") is None:
        raise MediError("onnxruntime is not installed: pip install 'medi-histo[stress]'")
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes are not public
        raise MediError(f"{path}: not readable as ONNX ({_line(error)})") from error
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: normalisation(images)})[0]


def _torchscript(path: Path, normalisation: Normalisation) -> Callable[[Images], Any]:
    import torch

    try:
        module = torch.jit.load(path, map_location="cpu").eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise MediError(f"{path}: not readable as TorchScript ({_line(error)}); save it by torch.jit.save") from error

    def scores(images: Images) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(normalisation(images))).numpy()

    return scores


def _function(place: str, name: str) -> Callable[[Images], Any]:
    try:
        found = _defined(place).get(name)
    except MediError:
        raise
    except Exception as error:
        raise MediError(f"{place}: cannot be imported ({type(error).__name__}: {_line(error)})") from error
    if not callable(found):
        raise MediError(f"{place}: has no function {name!r}")
    return cast(Callable[[Images], Any], found)


def _defined(place: str) -> Mapping[str, Any]:
    """What a file or a module defines."""
    return runpy.run_path(str(_existing(place))) if place.endswith(".py") else vars(importlib.import_module(place))


def _probe(where: str, seed: int) -> Classifier:
    from medi.evaluation.encoders import embedded, encoder

    folder, _, name = where.partition(":")
    extractor = encoder(name or "colour-texture")
    probe = learned(Cohort.load(Path(folder)), lambda train: embedded(train, extractor), folder, seed)
    return Classifier(
        f"probe on {extractor.name}", probe.classes, lambda images: probe.scores(extractor.encode(images))
    )


def learned(cohort: Cohort, embed: "Callable[[Cohort], Embedded]", where: str, seed: int) -> "Probe":
    """A probe of the training patches that have a class, of all patches where none is for training.

    embed: gives their features. MediError where they have one class alone, naming the cohort, `where`.
    """
    from medi.evaluation.classify.probes import Probe

    train = cohort.where(split=TRAIN) if is_split(cohort) else cohort
    train = train.select(has_class(train))
    if train.table["class"].nunique() < 2:
        raise MediError(f"{where}: a probe needs patches of two classes")
    over = [a.name for a in train.schema.conditions if a.kind == "categorical"][:2]
    return Probe.fit(embed(train), over=over, seed=seed)


def _line(error: Exception) -> str:
    """The first line of a message; some libraries write pages."""
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
