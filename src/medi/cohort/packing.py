"""Packing: image files or tar members -> one uint8 store beside a table. Parallel, resumable; P2, P11, P12.

Workers write disjoint rows of one store and return a checksum per unit of work, which a log keeps; a unit whose
bytes do not match its checksum after a kill is done again. The finished store gets per-chunk checksums.
"""

import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Int64

from medi.cohort.depth import UNSTATED
from medi.cohort.image_fit import Done, Fit, Job, Mode, Shared, count_unit, pack_unit
from medi.cohort.lost import lost_file
from medi.cohort.pixels import Pixels, reserve, write_checksums
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import content_hash, read_json, write_json
from medi.core.lines import line_of, parse_line
from medi.core.locks import holding
from medi.core.processes import Pool
from medi.core.progress import Advance
from medi.core.threads import cores

UNIT = 64  # images per unit of work: what a kill can cost a worker
UNIT_ROWS = 1024  # patches per unit, where images give many


@holding("out")
def pack(
    cohort: Cohort,
    root: Path,
    out: Path,
    size: int,
    mode: Mode = "resize",
    mpp: float | None = None,
    workers: int | None = None,
    on_error: Literal["skip", "fail"] = "fail",
    progress: Advance | None = None,
) -> Cohort:
    """Decode the images of a cohort, fit them (see Fit) and write the packed cohort to `out`.

    image column: paths relative to `root`, "shard.tar!member", or a region of a slide (`slides.region`). workers:
    processes, default one per core.
    progress(done, total) counts images. The same call goes on after a kill and returns at once when all is done. An
    image that is missing, broken, too small or a decompression bomb stops the packing by name, or with on_error="skip"
    is left out and listed in info["packing"]["skipped"].
    """
    fit, out = Fit(size, mode, mpp), Path(out)
    recipe = recipe_of(cohort, fit)
    if (out / "cohort.json").exists() and not _has_lost(out, recipe):
        return _finished(out, recipe)
    with Pool(cores() if workers is None else workers) as pool:
        jobs, unreadable = _jobs(cohort.table, root, fit, pool, on_error)
        units = _units(jobs)
        store, log = _open_store(out, recipe, jobs, size)
        done = _resume(log, units, store, on_error)
        _run(units, done, pool, Shared(root, store, fit), log, on_error, progress)
    results = [done[i] for i in range(len(units))]
    dark = _dark(results, root, store.parent)
    skipped = unreadable + [pair for result in results for pair in result.failed]
    table, pixels = _without(skipped, cohort, jobs, results, store, fit, out)
    if not skipped and fit.mode != "tile":  # then a unit is a chunk of UNIT rows
        write_checksums(out / "pixels.npy", UNIT, [result.checksum for result in results])
    settings = {**asdict(fit), "recipe": recipe, "skipped": [{"image": i, "reason": r} for i, r in skipped]}
    settings |= {"dark": dark} if dark else {}
    Cohort(table, cohort.schema, pixels, {**cohort.info, "packing": settings}).save(out)
    shutil.rmtree(store.parent)
    return Cohort.load(out)


def _dark(results: list[Done], root: Path, work: Path) -> list[str]:
    """Images of 16 bits without a value above 12 bits.

    MediError where no other image of 16 bits has one; `work` then goes, so that the mended images are read.
    """
    dark = [name for result in results for name in result.dark]
    if dark and len(dark) == sum(result.deep for result in results):
        shutil.rmtree(work)
        more = f" (and {len(dark) - 1:,} more, all of 16 bits)" if len(dark) > 1 else ""
        raise MediError(f"{root / dark[0]}{more}: {UNSTATED}")
    return dark


def _units(jobs: list[Job]) -> list[list[Job]]:
    """Consecutive jobs, at most UNIT of them and about UNIT_ROWS patches."""
    units: list[list[Job]] = []
    for job in jobs:
        if not units or len(units[-1]) == UNIT or job.row - units[-1][0].row >= UNIT_ROWS:
            units.append([])
        units[-1].append(job)
    return units


def recipe_of(cohort: Cohort, fit: Fit) -> str:
    """What decides the packed cohort: table, schema and fit."""
    return content_hash(cohort.digest(), asdict(fit))


def _has_lost(out: Path, recipe: str) -> bool:
    """Whether a finished packing of this recipe has lost a file: then it is no longer called finished."""
    head = read_json(out / "cohort.json")
    is_lost = head.get("info", {}).get("packing", {}).get("recipe") == recipe and bool(lost_file(out, head))
    if is_lost:
        (out / "cohort.json").unlink()
    return is_lost


def _finished(out: Path, recipe: str) -> Cohort:
    packed = Cohort.load(out)
    if packed.info.get("packing", {}).get("recipe") != recipe:
        raise MediError(f"{out}: holds another cohort, or one packed otherwise; choose another folder or remove it")
    return packed


def _jobs(table: pd.DataFrame, root: Path, fit: Fit, pool: Pool, on_error: str) -> tuple[list[Job], list[list[str]]]:
    """A job per image with its rows in the store; tiles are counted from the images' headers first."""
    if "image" not in table or (table["image"] == "").any():
        raise MediError("the cohort has rows without an image; give the column `image`")
    scale = scale_of(table, fit)
    images = table["image"].tolist()
    counts, failed = [1] * len(images), list[list[str]]()
    if fit.mode == "tile":
        counts, failed = _count(images, scale, root, fit, pool)
        _stop(failed, on_error)
    rows = np.concatenate([[0], np.cumsum(counts)])
    return [Job(i, float(m), int(r), c) for i, m, r, c in zip(images, scale, rows, counts)], failed


def scale_of(table: pd.DataFrame, fit: Fit) -> np.ndarray:
    """Micrometres per pixel of every image, NaN where it is not known. MediError where it is needed and not known."""
    scale = table["mpp"].to_numpy(dtype=np.float64) if "mpp" in table else np.full(len(table), np.nan)
    if fit.mpp is not None and np.isnan(scale).any():
        row = int(np.argmax(np.isnan(scale)))
        named = table["image"].iloc[row] or table["sample_id"].iloc[row]
        raise MediError(f"{named}: its mpp is unknown (row {row}); state it when reading the cohort")
    return scale


def _count(images: list[str], scale: np.ndarray, root: Path, fit: Fit, pool: Pool) -> tuple[list[int], list[list[str]]]:
    """Tiles per image, from its header; 0 and the reason where it has none."""
    starts = range(0, len(images), UNIT)
    tasks = [(start, images[start : start + UNIT], scale[start : start + UNIT].tolist(), root, fit) for start in starts]
    found = sorted(pool.map(count_unit, tasks))
    return [n for _, counts, _ in found for n in counts], [pair for _, _, failed in found for pair in failed]


def _open_store(out: Path, recipe: str, jobs: list[Job], size: int) -> tuple[Path, Path]:
    """The unfinished store and its log: those of this recipe, or fresh ones."""
    work = out / "unfinished"
    store, log, head = work / "pixels.npy", work / "done.jsonl", work / "recipe.json"
    rows = jobs[-1].row + jobs[-1].count if jobs else 0
    if head.exists() and read_json(head) == {"recipe": recipe, "rows": rows}:
        if not store.exists() and (out / "pixels.npy").exists():  # a kill came before the cohort had its head
            (out / "pixels.npy").replace(store)
        if store.exists():
            return store, log
    if not rows:
        raise MediError(f"{out}: nothing to pack; no image gives a patch")
    reserve(store, (rows, size, size, 3))
    log.unlink(missing_ok=True)
    write_json(head, {"recipe": recipe, "rows": rows})
    return store, log


def _resume(log: Path, units: list[list[Job]], store: Path, on_error: str) -> dict[int, Done]:
    """The units of the log whose bytes are in the store; a torn or altered line is passed over."""
    done: dict[int, Done] = {}
    pixels = np.load(store, mmap_mode="r")
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        try:
            result = Done(**parse_line(line))
        except (ValueError, TypeError):
            continue
        if result.failed and on_error == "fail":
            continue
        if result.unit < len(units) and _checksum(pixels, units[result.unit]) == result.checksum:
            done[result.unit] = result
    return done


def _run(
    units: list[list[Job]],
    done: dict[int, Done],
    pool: Pool,
    shared: Shared,
    log: Path,
    on_error: str,
    progress: Advance | None,
) -> None:
    """Do what is not done yet; each finished unit is a line in the log."""
    finished, total = sum(len(units[i]) for i in done), sum(map(len, units))
    tasks = [(i, unit, shared) for i, unit in enumerate(units) if i not in done]
    with log.open("a", encoding="utf-8") as handle:
        for result in pool.map(pack_unit, tasks, in_shares=True):  # neighbours share slides, and tiles of them
            _stop(result.failed, on_error)
            done[result.unit] = result
            handle.write(line_of(vars(result)))
            handle.flush()
            finished += len(units[result.unit])
            if progress is not None:
                progress(finished, total)


def _stop(failed: list[list[str]], on_error: str) -> None:
    if failed and on_error == "fail":
        name, reason = failed[0]
        raise MediError(f"{name}: {reason}; replace it, or pack with on_error skip to leave such images out")


def _checksum(pixels: np.ndarray, jobs: list[Job]) -> str:
    return content_hash(pixels[jobs[0].row : jobs[-1].row + jobs[-1].count].data)


def _without(
    skipped: list[list[str]],
    cohort: Cohort,
    jobs: list[Job],
    results: list[Done],
    store: Path,
    fit: Fit,
    out: Path,
) -> tuple[pd.DataFrame, Pixels]:
    """The table and the store, in its place, without the skipped images."""
    bad = {image for image, _ in skipped}
    counts = np.array([0 if job.image in bad else job.count for job in jobs], dtype=np.int64)
    if not counts.any():
        raise MediError(f"{out}: no image could be packed; the first: {skipped[0][0]}: {skipped[0][1]}")
    mpp = np.array([value for result in results for value in result.mpp])
    table = _tiles(cohort.table.assign(mpp=mpp), counts, fit)
    return table, _move(store, out / "pixels.npy", np.repeat(counts > 0, [job.count for job in jobs]))


def _tiles(table: pd.DataFrame, counts: Int64[np.ndarray, " n"], fit: Fit) -> pd.DataFrame:
    """A row per patch; tiles are named <sample_id>#<number>."""
    rows = np.repeat(np.arange(len(table)), counts)
    table = table.iloc[rows].reset_index(drop=True)
    if fit.mode != "tile":
        return table
    number = pd.Series(np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(str)
    return table.assign(sample_id=(table["sample_id"] + "#" + number).astype("str"))


def _move(store: Path, path: Path, kept: np.ndarray) -> Pixels:
    """All rows: rename the synced store. Some: copy the rows that are kept."""
    if not kept.all():
        Pixels.open(store).select(np.flatnonzero(kept)).save(path)
        return Pixels.open(path)
    with store.open("rb+") as handle:
        os.fsync(handle.fileno())
    store.replace(path)
    return Pixels.open(path)
