"""Is all well: what is installed, what the machine can do, and whether cohorts, models and runs are sound.

Each finding carries its remedy. Nothing is changed, and torch is imported only to look at a GPU or a model.
"""

import platform
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from medi import __version__
from medi.core.errors import MediError
from medi.core.files import RESULTS_FORMAT, check_format, read_json, read_table
from medi.core.threads import cores

DISTRIBUTION = "medi-histo"
BF16_FLAGS = ("avx512_bf16", "amx_bf16")
CPU_INFO = Path("/proc/cpuinfo")
MODEL_FILE = "model.safetensors"
RECORDS = ("run.json", ".run.json")  # of a run, the second a copy of the first
State = Literal["fine", "note", "stopped", "broken"]


@dataclass(frozen=True)
class Finding:
    """What was found about `topic`; a note, something that was stopped or is broken says what to do."""

    topic: str
    text: str
    state: State = "fine"
    remedy: str = ""


def examine(paths: list[Path]) -> Iterator[Finding]:
    """Findings one by one: the installation, the machine, the encoders, then each path."""
    yield from installation()
    yield from machine()
    yield from encoders()
    for path in paths:
        yield from contents(path)


# --- what is installed ------------------------------------------------------------------------------------------------


def installation() -> Iterator[Finding]:
    yield Finding("medi", f"{__version__}, Python {platform.python_version()}, {platform.system()}")
    try:
        wanted = [Requirement(text) for text in requires(DISTRIBUTION) or []]
    except PackageNotFoundError:
        remedy = "pip install it (pip install -e . in its folder), so that its needs are known"
        yield Finding("packages", f"{DISTRIBUTION} is not installed", "note", remedy)
        return
    needed = [r for r in wanted if r.marker is None]
    yield _packages("packages", needed, "broken", f"pip install --upgrade {DISTRIBUTION}")
    for extra in sorted({name for r in wanted if (name := _extra(r))} - {"all", "dev"}):
        parts = [r for r in wanted if _extra(r) == extra]
        yield _packages(f"extra {extra}", parts, "note", f"pip install '{DISTRIBUTION}[{extra}]' where you want it")


def _extra(requirement: Requirement) -> str:
    found = re.search(r"extra == ['\"]([^'\"]+)['\"]", str(requirement.marker or ""))
    return found[1] if found else ""


def _packages(topic: str, wanted: list[Requirement], state: State, remedy: str) -> Finding:
    """All there, in versions that do; or what is not."""
    found = {r.name: _version(r.name) for r in wanted}
    bad = [f"{r} (found {found[r.name] or 'none'})" for r in wanted if not _suits(r, found[r.name])]
    if bad:
        return Finding(topic, "lacks " + "; ".join(re.sub(r"; extra.*? \(", " (", text) for text in bad), state, remedy)
    return Finding(topic, ", ".join(f"{name} {number}" for name, number in sorted(found.items())))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _suits(requirement: Requirement, found: str) -> bool:
    return bool(found) and requirement.specifier.contains(found, prereleases=True)


# --- what the machine can do ------------------------------------------------------------------------------------------


def machine() -> Iterator[Finding]:
    flags = _cpu_flags()
    if flags is None:
        units = "whether it has bf16 units is not known on this system"
    else:
        units = (
            f"bf16 units: {', '.join(flag for flag in BF16_FLAGS if flag in flags) or 'none, training runs in fp32'}"
        )
    yield Finding("processor", f"{platform.machine()}, {cores()} cores; {units}")
    yield _gpu()


def _cpu_flags() -> set[str] | None:
    if not CPU_INFO.is_file():
        return None
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", CPU_INFO.read_text(), re.MULTILINE)
    return set(found[1].split()) if found else set()


def _gpu() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding("device", "the CPU; no NVIDIA driver is here")
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Finding("device", f"{names} (CUDA {torch.version.cuda})")
    remedy = "install a torch build for CUDA, or see that nvidia-smi finds the GPU"
    return Finding("device", "the CPU: there is an NVIDIA driver, but torch sees no GPU", "note", remedy)


def encoders() -> Iterator[Finding]:
    """Which encoders can be loaded, and which cannot: one line each, as the embedded one always can."""
    from medi.evaluation.encoders import available

    found = list(available())
    yield Finding("encoders here", ", ".join(one.name for one in found if one.loadable))
    if absent := [one.name for one in found if not one.loadable]:
        remedy = f"`medi embed --encoder {absent[0]}` says where its weights are from and where they belong; so for all"
        yield Finding("encoders not here", ", ".join(absent), "note", remedy)


# --- cohorts, models, runs --------------------------------------------------------------------------------------------


def contents(path: Path) -> Iterator[Finding]:
    """What a path holds, and whether it is sound."""
    if not path.exists():
        yield Finding(str(path), "no such file or folder", "broken", "correct the path")
    elif any((path / name).is_file() for name in RECORDS):
        yield from run(path)
    elif (path / "cohort.json").is_file():
        yield from cohort(path)
    elif path.suffix == ".safetensors" or (path / MODEL_FILE).is_file():
        yield _checked(path, "train it again", lambda: _model(path / MODEL_FILE if path.is_dir() else path))
    else:
        yield _checked(path, "delete it and run the same command again", lambda: _stopped(path))


def _stopped(path: Path) -> Finding:
    """What a process left that did not come to its end, or that there is nothing of ours."""
    from medi.study.stopped import how_it_goes_on, what_is_left

    if path.is_dir() and (left := what_is_left(path)):
        return Finding(str(path), left, "stopped", how_it_goes_on(path))
    nothing = "holds no run.json, cohort.json or model.safetensors"
    return Finding(str(path), nothing, "broken", "name the folder of a run, a cohort or a model")


def _checked(path: Path, remedy: str, check: Callable[[], str | Finding]) -> Finding:
    """What a check says, or its error, which names the remedy behind its semicolon where it has one."""
    try:
        found = check()
        return found if isinstance(found, Finding) else Finding(str(path), found)
    except MediError as error:
        text, mark, own = str(error).removeprefix(f"{path}: ").partition("; ")
        return Finding(str(path), text, "broken", own if mark else remedy)
    except Exception as error:  # whatever a damaged file makes of a library
        return Finding(str(path), f"cannot be read: {type(error).__name__}: {error}", "broken", remedy)


def cohort(path: Path) -> Iterator[Finding]:
    """Format, table, schema, every checksum of the pixels; and the certificate of a hold-out beside it."""
    yield _checked(path, "write or pack the cohort again", lambda: _cohort(path))
    if (path / "certificate.json").is_file() and (path / "split.parquet").is_file():
        yield _checked(path / "certificate.json", "run `medi holdout` again", lambda: _holdout(path, path))


def _cohort(path: Path) -> str:
    from medi.cohort.pixels import verify
    from medi.cohort.table import Cohort

    found = Cohort.load(path)
    found.schema.encode(found.table)
    text = f"cohort of {len(found):,} rows, {len(found.schema.attributes)} attributes"
    if found.pixels is None:
        return f"{text}, not packed"
    verify(path / "pixels.npy")
    sums = "checksums hold" if (path / "pixels.sums.json").is_file() else "older than checksums, pixels not checked"
    return f"{text}, {found.pixels.size} px, {sums}"


def _holdout(path: Path, cohort: Path) -> str:
    from medi.cohort.certificate import verify
    from medi.cohort.holdout import Holdout
    from medi.cohort.table import Cohort

    found = Holdout.load(path)
    problems = verify(found.apply(Cohort.load(cohort).table), found.certificate)
    if problems:
        raise MediError(f"the certificate does not hold: {problems[0]}; design the hold-out again")
    return f"hold-out: {len(found.held_out)} combinations without a training patch, the certificate holds"


def _model(path: Path) -> str:
    from medi.models.checkpoint import load_model

    denoiser, checkpoint = load_model(path)
    weights = sum(parameter.numel() for parameter in denoiser.parameters())
    conditions = ", ".join(a.name for a in denoiser.schema.conditions)
    return f"model {checkpoint.hash}: {weights:,} weights, {denoiser.settings.size} px, knows {conditions}"


def run(path: Path) -> Iterator[Finding]:
    """Stages, then what they left: cohorts, hold-out, models, samples, tables."""
    yield _checked(path, "the same `medi` command goes on where it stopped", lambda: _stages(path))
    for state in sorted(path.glob("models/*/state.safetensors")):
        if not state.with_name(MODEL_FILE).is_file():
            yield _checked(
                state.parent, "delete the folder and run the same command again", partial(_stopped, state.parent)
            )
    for head in sorted(path.glob("**/cohort.json")):
        yield from cohort(head.parent)
    if (path / "holdout" / "certificate.json").is_file():
        remedy = "run the same command with --redo"
        yield _checked(path / "holdout", remedy, lambda: _holdout(path / "holdout", path / "cohort"))
    for model in sorted(path.glob(f"models/*/{MODEL_FILE}")):
        yield _checked(model, "delete the folder and run the same command again", partial(_made, path, model))
    tables = sorted(path.glob("tables/*.parquet"))
    if tables:
        yield _checked(path / "tables", "delete the table and run the same command again", lambda: _tables(tables))
    for left in sorted(path.glob(".app-*")):
        yield Finding(str(left), "left over from an app that was killed", "note", "delete it unless an app is running")


def _stages(path: Path) -> str | Finding:
    from medi.study.stages import read_records
    from medi.study.stopped import how_it_goes_on
    from medi.study.upkeep import command_of

    stages = read_records(next(path / name for name in RECORDS if (path / name).exists()))
    unfinished = [name for name, stage in stages.items() if stage.line is None]
    if gone := [name for name in stages if name not in unfinished and not (path / name).exists()]:
        raise MediError(f"{path}: {gone[0]} is gone although its stage is done; run the same command again")
    if unfinished or not (path / "results.json").is_file():
        where = f"stage {unfinished[0]} is not finished" if unfinished else "results.json is not there yet"
        return Finding(str(path), f"unfinished run: {where}", "stopped", how_it_goes_on(path, command_of(path)))
    check_format(read_json(path / "results.json").get("format_version"), RESULTS_FORMAT, path / "results.json")
    return f"run: all {len(stages)} stages are finished"


def _made(path: Path, model: Path) -> str:
    """A model of a run, and whether the samples are its own."""
    from medi.models.checkpoint import model_hash

    text, samples = _model(model), path / "samples" / model.parent.name / "table.parquet"
    if samples.is_file() and set(read_table(samples)["origin"]) != {model_hash(model)}:
        raise MediError(f"{model}: the samples were made by another model; run the same command with --redo")
    return text + (", which made the samples" if samples.is_file() else "")


def _tables(paths: list[Path]) -> str:
    rows = {path.stem: len(read_table(path)) for path in paths}
    return "tables: " + ", ".join(f"{name} {n:,}" for name, n in rows.items())
