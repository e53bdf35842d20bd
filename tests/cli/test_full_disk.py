"""Every verb that writes, on a full disk: one line, nothing half-written, and the same command goes on (P12)."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from command_line import Medi, fine, refused
from medi.cohort import phantom

HOLDOUT = ("holdout", "images/t.csv", "--attributes", "site", "--rate", "0.1", "--min-patients", "1")
VERBS = {  # the folder that it writes, the command, and the bytes that a file may have
    "h": (HOLDOUT, 6_000),
    "a": (("audit", "h"), 6_000),
    "p": (("pack", "h", "--size", "32"), 60_000),
    "l": (("plan", "p", "--to", "4"), 2_000),
    "m": (("train", "p", "--preset", "tiny", "--images", "64"), 60_000),
    "s": (("sample", "m", "l", "--steps", "1", "--workers", "1"), 60_000),
    "e.parquet": (("embed", "p"), 20_000),
    "x": (("export", "m", "--untested"), 20_000),
    "f": (("export", "s", "--as", "folder"), 1_000),
    "w": (("export", "s", "--as", "webdataset"), 6_000),
}


def _images(folder: Path) -> None:
    """PNG files of the phantom and their table."""
    cohort, folder = phantom.cohort(seed=0, patches=240), folder.absolute()
    folder.mkdir()
    names = [f"{row}.png" for row in range(len(cohort))]
    for name, pixels in zip(names, cohort.images[:]):
        Image.fromarray(pixels).save(folder / name)
    cohort.table[["class", "site", "patient", "slide"]].assign(image=names).to_csv(folder / "t.csv", index=False)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: for who writes, the same as a disk that is full."""
    before, heard = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)


@pytest.mark.slow
def test_a_full_disk_is_one_line_in_every_verb_p12(medi: Medi) -> None:
    _images(Path("images"))
    for out, (command, size) in VERBS.items():
        with files_of_at_most(size):
            result = medi(*command, "--out", out)
        refused(result, out, "cannot be written")
        assert not list(Path().rglob("*.tmp"))
        fine(medi(*command, "--out", out))


@pytest.mark.slow
def test_a_cache_of_features_on_a_full_disk(medi: Medi) -> None:
    """safetensors has an error of its own: it was a traceback."""
    phantom.cohort(seed=0, patches=200).save("c")
    with files_of_at_most(20_000):
        result = medi("embed", "c", "--cache", "kept", "--out", "e.parquet")
    refused(result, "kept", ".safetensors: cannot be written", "File too large")
    fine(medi("embed", "c", "--cache", "kept", "--out", "e.parquet"))
