"""The log of a training: a row each time that its state is saved. Recorded times lie in a file of their own."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from medi.core.errors import MediError
from medi.core.files import write_text
from medi.core.lines import line_of, read_lines
from medi.core.numbers import digits

GPU_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0}  # dense bf16, by name
LOG, SPEEDS = "log.jsonl", "speed.jsonl"  # in a model's folder
TIMED = {"images_per_second", "utilisation"}  # entries of a row that differ between two runs of the same training
REPEATED = {"loss", "gflop_per_image", "validation_loss"}  # entries of a row that the speeds do not need
AGAIN = "delete it; the same training writes it again from its state"
COLLAPSE, COLLAPSE_IMAGES = 1.5, 1_000  # growth of the mean loss over so many images that ends a training


@dataclass(frozen=True)
class LogRow:
    """After so many `images`: the mean loss since the row before, the rate, the cost of an image (forward and backward
    pass), the share of the GPUs' dense bf16 rate, and the averaged weights' loss on validation patches."""

    images: int
    loss: float
    gflop_per_image: float
    images_per_second: float = math.nan
    utilisation: float | None = None
    validation_loss: float | None = None


def read_log(folder: Path) -> list[LogRow]:
    """The rows of a model folder: its log.jsonl, and beside it the speeds. MediError where one is damaged."""
    rows = list(read_lines(folder / LOG, AGAIN))
    speeds = read_lines(folder / SPEEDS, AGAIN) if (folder / SPEEDS).exists() else ()
    by_images = {row["images"]: row for row in speeds}
    return [LogRow(**{**row, **by_images.get(row["images"], {})}) for row in rows]


def write_log(folder: Path, log: Sequence[LogRow]) -> None:
    """Two files of a line each row: log.jsonl, the same bytes whenever the training is the same, and the speeds."""
    for name, without in ((LOG, TIMED), (SPEEDS, REPEATED)):
        rows = ({key: value for key, value in asdict(row).items() if key not in without} for row in log)
        write_text(folder / name, "".join(map(line_of, rows)))


def utilisation(gflop_per_second: float, processes: int = 1) -> float | None:
    """Share of the GPUs' dense bf16 rate in use; None on a CPU or a GPU whose rate is not known."""
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    peak = next((rate for part, rate in GPU_TFLOPS.items() if part in name), None)
    return None if peak is None else gflop_per_second / (1e3 * peak * processes)


class Diverged(MediError):
    """A training that went wrong by itself: it collapsed, or its numbers are not finite any more."""


def check_finite(loss: float, weights_are_finite: bool, images: int) -> None:
    """Refuse a loss or weights that are no numbers any more."""
    if math.isfinite(loss) and weights_are_finite:
        return
    what = "weights are not finite" if math.isfinite(loss) else f"loss is {loss}"
    raise Diverged(f"the {what} after {images:,} images; the last good state is kept: lower the learning rate")


def check_collapse(log: Sequence[LogRow], images: int) -> None:
    """Refuse a loss, the mean over so many images, that has left its course: it does not come back by itself."""
    for name in ("loss", "validation_loss"):
        losses = [value for row in log if (value := getattr(row, name)) is not None]
        if losses and images >= COLLAPSE_IMAGES and losses[-1] > COLLAPSE * min(losses):
            least, last = digits(min(losses)), digits(losses[-1])
            raise Diverged(
                f"training has collapsed: the {name.replace('_', ' ')} was {least} and is {last} "
                f"after {log[-1].images:,} images; the last good state is kept: train in a new folder at a lower "
                "learning rate"
            )
