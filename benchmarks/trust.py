"""Processes killed at random moments: what is lost, and is any bit of the result another?

python benchmarks/trust.py [--kills 100] [--out FOLDER] [--quick]   prints one JSON object as its last line.

For each of the verbs pack, train, sample, embed and run, the command is first run to its end. Then it is started again
in a new folder, killed (SIGKILL) at a random moment, and started again, several times, until it ends by itself. Half of
the kills hit the command with all its workers, half the command alone. Then every file is compared with that of the
undisturbed run. Recorded times are left out: they lie in the files TIMED, in the header of a training's state, and in
one table of the report.

Last, every file of the finished run is deleted, cut short or given one wrong bit, one file at a time. The same command
must say so by the file's name and mend it.
"""

import argparse
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from common import figure, report
from medi.cohort import phantom
from medi.core.seeds import generator
from medi.models.checkpoint import load_tensors
from medi.study.upkeep import LOG
from medi.training.loop import STATE

TIMED = {"run.json", ".run.json", "log.txt", "speed.jsonl"}
TIMES_OF_STATE = {"open", "log"}
TIMES_OF_REPORT = re.compile(r"Seconds per stage.*?</(?:table|dl|section)>", re.DOTALL)
DONE_TO = ("SIGKILL at a random moment", "a file deleted, cut short or with one bit flipped")
ANEW = {"results.json", "report.html", "tables/training.parquet", "sheet", "sheets"}  # written by every run
FIRST = 1.0  # seconds that a command is left alone at least
KILLS_EACH = 5  # of one run of a command
PATIENCE = 900.0  # seconds for one command
VERBS = ("pack", "train", "sample", "embed", "run")
BEFORE = {"pack": "holdout", "sample": "plan"}  # what a verb needs beside the outputs of those before it


@dataclass
class Found:
    """What became of one verb: kills that hit, files that are lost, other or too many at the end, and starts that were
    refused because a worker of the killed command was still there."""

    kills: int = 0
    lost: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    refused: int = 0


def images(folder: Path, count: int) -> Path:
    """PNG files of the phantom and their table."""
    cohort = phantom.cohort(seed=7, patches=count)
    names = [f"{i:05d}.png" for i in range(len(cohort))]
    for name, pixels in zip(names, cohort.images[:]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    table = cohort.table[["class", "patient", "slide", "site"]].assign(image=names)
    table.to_csv(folder / "metadata.csv", index=False)
    return folder / "metadata.csv"


def commands(table: Path, made: Path, scale: int) -> dict[str, list[str]]:
    """Each verb with its input, which is the output of the undisturbed run of the verb before."""
    packed, model, plan = made / "pack", made / "train", made / "plan"
    return {
        "holdout": ["holdout", f"{table}", "--attributes", "site"],
        "pack": ["pack", f"{made / 'holdout'}", "--size", "32"],
        "plan": ["plan", f"{packed}", "--to", "40"],
        "train": ["train", f"{packed}", "--preset", "tiny", "--images", f"{512 * scale}"],
        "sample": ["sample", f"{model}", f"{plan}", "--steps", "8", "--batch", "16"],
        "embed": ["embed", f"{packed}"],
        "run": ["demo", "--quick"],
    }


def start(arguments: Sequence[str], verb: str, out: Path) -> subprocess.Popen[str]:
    """A command of its own group of processes."""
    place = ["--out", f"{out}"]
    if verb == "embed":
        place = ["--cache", f"{out}", "--out", f"{out / 'features.parquet'}"]
    return subprocess.Popen(
        [sys.executable, "-m", "medi.cli", *arguments, *place],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(arguments: Sequence[str], verb: str, out: Path, found: Found) -> None:
    """Run a command to its end; wait where the worker of a killed one still holds the folder."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        process = start(arguments, verb, out)
        said = process.communicate(timeout=PATIENCE)[0]
        if process.returncode == 0:
            return
        if "is in use by process" not in said:
            found.failed.append(said[-500:])
            return
        found.refused += 1
        time.sleep(1)
    found.failed.append("never ended")


def kill_at_random(
    arguments: Sequence[str], verb: str, out: Path, seconds: float, rng: np.random.Generator, found: Found
) -> bool:
    """Start a command and kill it at a random moment before its usual end; False where it had ended."""
    process = start(arguments, verb, out)
    try:
        said = process.communicate(timeout=FIRST + rng.uniform(0, seconds))[0]
        if process.returncode and "is in use by process" not in said:
            found.failed.append(said[-500:])
        return process.returncode != 0
    except subprocess.TimeoutExpired:
        kill = os.killpg if rng.random() < 0.5 else os.kill
        kill(process.pid, signal.SIGKILL)
        process.wait()
        found.kills += 1
        return True


def contents(out: Path) -> Mapping[str, str]:
    """A hash of every file in a folder, without recorded times."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name not in TIMED)
    return {f"{path.relative_to(out)}": hashlib.sha256(_untimed(path)).hexdigest() for path in files}


def _untimed(path: Path) -> bytes:
    if path.name == STATE:
        tensors, header = load_tensors(path)
        kept = {name: value for name, value in header.items() if name not in TIMES_OF_STATE}
        return repr((kept, {name: value.flatten().tolist() for name, value in sorted(tensors.items())})).encode()
    if path.suffix == ".html":
        return TIMES_OF_REPORT.sub("", path.read_text(encoding="utf-8")).encode()
    return path.read_bytes()


def compare(found: Found, whole: Mapping[str, str], out: Path) -> None:
    """Note every file that is lost, other, or one too many."""
    ended = contents(out)
    found.lost += [f"{out.name}/{name}" for name in whole if name not in ended]
    found.left += [f"{out.name}/{name}" for name in ended if name not in whole]
    found.other += [f"{out.name}/{name}" for name in ended if name in whole and ended[name] != whole[name]]


def trial(verb: str, arguments: Sequence[str], made: Path, kills: int, seconds: float) -> Found:
    """So many kills of one verb, KILLS_EACH of a run at most."""
    found, rng, whole, number = Found(), generator("trust", verb), contents(made / verb), 0
    while found.kills < kills and number < 4 * kills and not found.failed:
        out, number, before = made / f"{verb}-{number}", number + 1, found.kills
        while found.kills < min(kills, before + KILLS_EACH):
            if not kill_at_random(arguments, verb, out, seconds, rng, found):
                break
        finish(arguments, verb, out, found)
        compare(found, whole, out)
    return found


def damages(arguments: Sequence[str], out: Path) -> Found:
    """Damage each file of a finished run in turn, in one of three ways, and run the same command again."""
    found, whole, rng = Found(), contents(out), generator("trust", "damage")
    recorded = [f"{path.relative_to(out)}" for path in out.rglob("*") if path.name in TIMED - {LOG}]
    for number, name in enumerate(sorted([*whole, *recorded])):
        path, way = out / name, ("deleted", "cut", "flipped")[number % 3]
        is_spare = path.name == STATE  # a damaged one is deleted, and nothing needs it; a user may delete it too
        if is_spare and way == "deleted":
            way = "cut"
        sound = path.read_bytes()
        data = bytearray(sound)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        path.unlink()
        if way != "deleted":
            path.write_bytes(data if way == "flipped" else data[: len(data) // 2])
        process = start(arguments, "run", out)
        said = process.communicate(timeout=PATIENCE)[0]
        found.kills += 1
        if process.returncode or (name not in " ".join(said.split()) and not ANEW & {name, Path(name).parts[0]}):
            found.failed.append(f"{name} {way}: {said[-300:]}")
        if is_spare and not path.exists():
            path.write_bytes(sound)
        compare(found, whole, out)
        print(f"{name} {way}; so far {len(found.failed)} not mended, {len(found.other)} other files", flush=True)
    return found


def undisturbed(verb: str, lines: Mapping[str, Sequence[str]], made: Path) -> None:
    """Run a verb to its end; whatever stops it ends the benchmark."""
    found = Found()
    finish(lines[verb], verb, made / verb, found)
    if found.failed:
        raise SystemExit(found.failed[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--verbs", nargs="*", default=VERBS, choices=VERBS, help="only these")
    parser.add_argument("--out", type=Path, help="keep what was made here")
    parser.add_argument("--quick", action="store_true", help="a kill of pack")
    asked = parser.parse_args()
    verbs, scale = (VERBS[:1], 1) if asked.quick else (asked.verbs, 8)
    with tempfile.TemporaryDirectory() as temporary:
        made = asked.out or Path(temporary)
        lines = commands(images(made / "images", 200 * scale), made, scale)
        found = {}
        for verb in verbs:
            if verb in BEFORE:
                undisturbed(BEFORE[verb], lines, made)
            began = time.monotonic()
            undisturbed(verb, lines, made)
            seconds = time.monotonic() - began
            found[verb] = trial(verb, lines[verb], made, 1 if asked.quick else asked.kills // len(VERBS), seconds)
            print(f"{verb}: {found[verb]} ({seconds:.0f} s undisturbed)", flush=True)
        if "run" in verbs:
            found["damage"] = damages(lines["run"], made / "run")
            print(f"damage: {found['damage']}", flush=True)
    figures = {}
    for verb, one in found.items():
        figures[f"{verb}_kills"] = figure([one.kills], "times", None, one.kills, DONE_TO[verb == "damage"])
        for name, files in {"lost": one.lost, "other": one.other, "left_over": one.left, "failed": one.failed}.items():
            figures[f"{verb}_{name}"] = figure([len(files)], "files", "0", one.kills, "the undisturbed run")
    report("trust", figures, ["torch", "numpy"])


if __name__ == "__main__":
    main()
