"""Patches from whole slides: packing against a bare openslide and Pillow loop, and planning a million coordinates.

python benchmarks/slides.py [--quick]

Slides are written first, as a scanner of 40x does: a quarter of a micrometre per pixel, JPEG tiles of 256 px, a second
level that is four times coarser. The patches are those of a grid, as TRIDENT writes it: 256 px at half a micrometre,
so squares of 512 px that are reduced (`packing`); and squares of 256 px of the finest level as they are, which is the
cheapest reading (`level`). Ours is the whole of `plan_slides`, reading its table, and `pack`. The bare loop opens each
slide once, looks for its level once, reads, converts and reduces the squares of its share in the same order, and writes
them to one .npy file by plain writing, which is cheaper than a map. At its end that is synced, as the flush of a map
does. It keeps no checksum and no table. Both run in as many processes as there are cores; the pixels are compared.

The two follow each other in pairs, and a figure is the median of the pairs' ratios: by the clock, which other work on
the machine changes, and by the CPU time of all processes (`_cpu`), which that hardly changes. Pairs of one slide, of
which the first warms up, tell the CPU time of a patch (`level_patch_cpu`) from what each packing takes once
(`level_start_cpu`). Each pair is printed to stderr. Planning: coordinates of TRIDENT, as many in all, from ten slides.
The last line is one JSON object.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from PIL import Image

from common import cpu_seconds, figure, report
from medi.cohort import readers
from medi.cohort.packing import pack
from medi.cohort.slides.planning import Field, plan_slides
from medi.core.seeds import generator

SIZE, TILE = 256, 256  # pixels of a patch, of a tile
FIRST = 37  # where a grid begins, which no tile does
Squares = list[tuple[str, int, int]]


def write_slide(path: Path, edge: int, number: int) -> None:
    """Smooth tissue with grain, a quarter of a micrometre per pixel."""
    rng = generator("slides benchmark", number)
    coarse = Image.fromarray(rng.integers(90, 200, (edge // 64, edge // 64, 3), dtype=np.uint8)).resize((edge, edge))
    pixels = np.asarray(coarse) + rng.integers(-10, 10, (edge, edge, 1), dtype=np.int16)
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    with tifffile.TiffWriter(path) as file:
        for level, reduced in enumerate((pixels, pixels[::4, ::4])):
            kept = {"tile": (TILE, TILE), "photometric": "rgb", "metadata": None, "subfiletype": int(level > 0)}
            kept |= {"compression": "jpeg", "compressionargs": {"level": 80}}
            file.write(reduced, resolution=(40_000, 40_000), resolutionunit="CENTIMETER", **kept)


def write_coordinates(path: Path, corners: np.ndarray, side: int) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file["coords"] = corners
        file["coords"].attrs["patch_size_level0"] = side


def grid_of(edge: int, side: int) -> np.ndarray:
    """Corners of squares side by side, row by row."""
    steps = np.arange(FIRST, edge - side, side)
    return np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)


def bare_loop(squares: Squares, side: int, store: str, first: int) -> None:
    """What anyone would write, at its best: the share of a process, whose first row in the store is `first`."""
    import openslide

    slides: dict[str, tuple[openslide.OpenSlide, int, int]] = {}
    rows = np.load(store, mmap_mode="r")
    with open(store, "rb+") as file:
        file.seek(rows.offset + first * rows[0].nbytes)
        for path, x, y in squares:
            if path not in slides:
                slide = openslide.OpenSlide(path)
                level = slide.get_best_level_for_downsample(side / SIZE)
                slides[path] = slide, level, round(side / slide.level_downsamples[level])
            slide, level, pixels = slides[path]
            image = slide.read_region((x, y), level, (pixels, pixels)).convert("RGB")
            if pixels != SIZE:
                image = image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
            file.write(np.asarray(image).data)


def bare(squares: Squares, side: int, store: Path, workers: int) -> None:
    """The loop over a share of neighbours in each of as many forked processes."""
    np.lib.format.open_memmap(store, mode="w+", dtype=np.uint8, shape=(len(squares), SIZE, SIZE, 3))
    ends = [len(squares) * i // workers for i in range(workers + 1)]
    shares = [squares[start:end] for start, end in pairwise(ends)]
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork")) as pool:
        list(pool.map(bare_loop, shares, [side] * workers, [str(store)] * workers, ends))
    with store.open("rb+") as file:
        os.fsync(file.fileno())  # as the flush of a map does


def packed(slides: Path, out: Path, field: Field, workers: int) -> pd.DataFrame:
    """The whole road; the patches."""
    patches, _, _ = plan_slides(slides, slides, out, field, workers=workers)
    cohort = readers.read(out / "patches.parquet", "table", label="vendor", attributes=[])
    pack(cohort, out, out / "packed", SIZE, workers=workers)
    return patches


Spent = tuple[float, float]  # seconds by the clock, of CPU time
Pair = tuple[Spent, Spent, int]  # ours, the bare loop, how many patches


def since(clock: float, cpu: float) -> Spent:
    return time.perf_counter() - clock, cpu_seconds() - cpu


def planned(slides: Path, out: Path, field: Field) -> tuple[float, float, int]:
    """Seconds and the peak of a process that does nothing else, and how many patches it planned."""
    start = time.perf_counter()
    patches, _, _ = plan_slides(slides, slides, out, field)
    seconds = time.perf_counter() - start
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())  # getrusage has the parent's in it
    return seconds, int(peak[1]) / 2**20 if peak else float("nan"), len(patches)


def pair(slides: Path, folder: Path, side: int, workers: int) -> Pair:
    """What ours and the bare loop take for the squares of one side, and how many there are."""
    out, field = folder / "out", Field(SIZE, places=folder / f"places{side}")
    os.sync()  # what was written before is not written back meanwhile
    start = time.perf_counter(), cpu_seconds()
    patches = packed(slides, out, field, workers)
    ours = since(*start)
    paths = slides.as_posix() + "/" + patches["slide"] + ".tif"
    squares = list(zip(paths, patches["x"].astype(int), patches["y"].astype(int)))
    os.sync()
    start = time.perf_counter(), cpu_seconds()
    bare(squares, side, folder / "bare.npy", workers)
    theirs = since(*start)
    found, expected = (np.load(path, mmap_mode="r") for path in (out / "packed" / "pixels.npy", folder / "bare.npy"))
    if any(not np.array_equal(found[i : i + 64], expected[i : i + 64]) for i in range(0, len(squares), 64)):
        raise SystemExit("the bare loop keeps other pixels")
    shutil.rmtree(out)
    return ours, theirs, len(squares)


def compared(slides: Path, folder: Path, side: int, workers: int, repeats: int) -> tuple[list[Pair], str]:
    """The pairs of one side, and against what."""
    pairs, loads = [], []
    for repeat in range(repeats):
        pairs.append(pair(slides, folder, side, workers))
        ours, theirs, count = pairs[-1]
        loads.append(os.getloadavg()[0])
        print(
            f"{side} px, pair {repeat + 1} of {repeats}, {count:,} patches: {ours[0]:.1f} s over {theirs[0]:.1f} s is "
            f"{theirs[0] / ours[0]:.3f}, CPU {ours[1]:.1f} s over {theirs[1]:.1f} s is {theirs[1] / ours[1]:.3f}, "
            f"load {loads[-1]:.1f}",
            file=sys.stderr,
            flush=True,
        )
    loop = f"openslide and Pillow, {workers} processes, {count:,} patches of {SIZE} px from {side} px"
    return pairs, f"{loop}; load {min(loads):.1f} to {max(loads):.1f}"


def ratios(pairs: list[Pair], spent: int) -> list[float]:
    """Over the bare loop, pair by pair. spent: 0 by the clock, 1 by CPU time."""
    return [theirs[spent] / ours[spent] for ours, theirs, _ in pairs]


def apart(few: list[Pair], many: list[Pair]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Seconds of CPU of ours and of the bare loop that do not depend on the number of patches, and those of a patch.

    A line through the medians of two sizes.
    """
    starts, each = [], []
    for who in (0, 1):
        small, large = (statistics.median(found[who][1] for found in pairs) for pairs in (few, many))
        each.append((large - small) / (many[0][2] - few[0][2]))
        starts.append(small - each[-1] * few[0][2])
    return (starts[0], starts[1]), (each[0], each[1])


def median(values: list[float], target: str | None, against: str) -> dict[str, object]:
    return figure(values, "median of pairs", target, len(values), against) | {"value": statistics.median(values)}


def write_cohort(folder: Path, edge: int, slides: int) -> None:
    """Slides, their grids of two sides, and a folder of one slide to warm up."""
    for name in ("slides", "one", "places256", "places512"):
        (folder / name).mkdir()
    for number in range(slides):
        name = f"s{number:02d}"
        write_slide(folder / "slides" / f"{name}.tif", edge, number)
        for side in (256, 512):
            write_coordinates(folder / f"places{side}" / f"{name}.h5", grid_of(edge, side), side)
    (folder / "one" / "s00.tif").symlink_to(folder / "slides" / "s00.tif")


def plan_many(folder: Path, edge: int, coordinates: int) -> tuple[float, float, int]:
    """`planned` of ten slides in a fresh process."""
    (folder / "ten").mkdir()
    (folder / "places").mkdir()
    for number in range(10):
        (folder / "ten" / f"s{number:02d}.tif").symlink_to(folder / "slides" / "s00.tif")
        corners = generator("slides benchmark", "places", number).integers(0, edge - 512, (coordinates // 10, 2))
        write_coordinates(folder / "places" / f"s{number:02d}.h5", corners, 512)
    field = Field(SIZE, places=folder / "places")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(planned, folder / "ten", folder / "plan", field).result()
    print(f"planned {found[2]:,} patches in {found[0]:.1f} s and {found[1]:.2f} GiB", file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small slides, few patches")
    quick = parser.parse_args().quick
    edge, slides, repeats, coordinates = (1536, 2, 1, 2_000) if quick else (8192, 21, 3, 1_000_000)
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        write_cohort(folder, edge, slides)
        seconds, peak, patches = plan_many(folder, edge, coordinates)
        few, _ = compared(folder / "one", folder, 256, workers, repeats + 1)
        plain, plain_loop = compared(folder / "slides", folder, 256, workers, repeats)
        reduced, loop = compared(folder / "slides", folder, 512, workers, repeats)
    starts, each = apart(few[1:], plain)  # the first warms up
    found = {
        "packing_over_bare": median(ratios(reduced, 0), ">= 0.9", loop),
        "packing_over_bare_cpu": median(ratios(reduced, 1), ">= 0.9", loop),
        "level_over_bare": median(ratios(plain, 0), ">= 0.9", plain_loop),
        "level_over_bare_cpu": median(ratios(plain, 1), ">= 0.9", plain_loop),
        "level_patch_cpu": figure([each[0] * 1e3], "ms of CPU", None, plain[0][2], f"bare loop {each[1] * 1e3:.2f} ms"),
        "level_start_cpu": figure([starts[0]], "s of CPU", None, plain[0][2], f"bare loop {starts[1]:.2f} s"),
        "planning_seconds": figure([seconds], "s", "<= 10", patches, "coordinates of ten slides, one process"),
        "planning_memory": figure([peak], "GiB", "<= 1", patches, "the whole process, a fresh one"),
    }
    report("slides", found, ["openslide-python", "tifffile", "pillow"])


if __name__ == "__main__":
    main()
