"""What a cohort's folder has lost, and which command makes it again: that of the verb that wrote it (P15)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medi.core.errors import MediError
from medi.core.files import read_json

HEAD = "cohort.json"
RUN = ("run.json", ".run.json")  # of a study, above the folders of its stages
DEPTH = 3  # folders between a run and a cohort in it
MARKS = {"transfer": "medi transfer", "sampler": "medi sample", "packing": "medi pack"}  # entries of info
FILES = {"certificate.json": "medi holdout", "audit.json": "medi audit", "latents.json": "medi train"}  # in the folder


def lost_file(folder: Path, head: Mapping[str, Any]) -> str:
    """The first file that cohort.json (`head`) promises and that is not there; "" where all are."""
    pixels = ["pixels.npy", *(["pixels.sums.json"] if head.get("checksums") else [])] if head.get("pixels") else []
    return next((name for name in ("table.parquet", *pixels) if not (folder / name).exists()), "")


def remedy(folder: Path) -> str:
    """How the cohort in a folder is made again where a file of it is lost; that of a damaged file has to go first."""
    command = command_of(folder)
    return f"run the same `{command}` command again, which makes it anew" if command else "write it again"


def damaged(folder: Path) -> str:
    """How it is made again where its pixels are damaged."""
    command = command_of(folder)
    return f"delete this file and run the same `{command}` command again" if command else "write it again"


def command_of(folder: Path) -> str:
    """The verb that wrote a cohort; "" where the library did."""
    if any((above / name).exists() for above in list(folder.resolve().parents)[:DEPTH] for name in RUN):
        return "medi run"
    try:
        info = read_json(folder / HEAD).get("info", {})
    except MediError:
        info = {}
    found = [*(verb for key, verb in MARKS.items() if key in info)]
    return next(iter([*found, *(verb for name, verb in FILES.items() if (folder / name).exists())]), "")
