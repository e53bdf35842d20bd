"""Patches from whole slides: packing against a bare openslide and Pillow loop, and planning a million coordinates.

python benchmarks/slides.py [--quick]

Slides are written first, as a scanner of 40x does: a quarter of a micrometre per pixel, JPEG tiles of 256 px, a second
level that is four times coarser. The patches are those of a grid, as TRIDENT writes it: 256 px at half a micrometre,
so squares of 512 px that are reduced. `packing_over_bare`: patches a second of `plan_slides` and `pack` together over
those of a loop that opens each slide once and reads, converts and resizes the same squares, keeps nothing, and runs in
as many forked processes. `cpu_over_bare`: the same in one process by its CPU time. `level_over_bare`, `level_cpu`:
the cheapest reading, squares of 256 px of the finest level as they are. Planning: coordinates of TRIDENT, as many in
all, from ten slides. The last line is one JSON object; spreads are over repeats, whose parts follow each other.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from common import figure, report
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


def grid_of(edge: int, side: int, most: int) -> np.ndarray:
    """Corners of squares side by side, row by row."""
    steps = np.arange(FIRST, edge - side, side)
    return np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)[:most]


def bare_loop(squares: Squares, side: int) -> int:
    """What anyone would write, with each slide opened once."""
    import openslide

    slides: dict[str, openslide.OpenSlide] = {}
    kept = 0
    for path, x, y in squares:
        slide = slides.setdefault(path, openslide.OpenSlide(path) if path not in slides else slides[path])
        level = slide.get_best_level_for_downsample(side / SIZE)
        pixels = round(side / slide.level_downsamples[level])
        image = slide.read_region((x, y), level, (pixels, pixels)).convert("RGB")
        kept += np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)).shape[0] == SIZE
    return kept


def seconds_bare(squares: Squares, side: int, workers: int) -> float:
    context, share = multiprocessing.get_context("fork"), -(-len(squares) // workers)
    start = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        parts = [squares[i * share : (i + 1) * share] for i in range(workers)]
        list(pool.map(bare_loop, parts, [side] * workers))
    return time.perf_counter() - start


def packed(slides: Path, out: Path, field: Field, workers: int) -> Squares:
    """The whole road; the squares that it read."""
    patches, _, _ = plan_slides(slides, slides, out, field, workers=workers)
    cohort = readers.read(out / "patches.parquet", "table", label="vendor", attributes=[])
    pack(cohort, out, out / "packed", SIZE, workers=workers)
    paths = slides.as_posix() + "/" + patches["slide"] + ".tif"
    return list(zip(paths, patches["x"].astype(int), patches["y"].astype(int)))


def planned(slides: Path, out: Path, field: Field) -> tuple[float, float, int]:
    """Seconds and the peak of a process that does nothing else, and how many patches it planned."""
    start = time.perf_counter()
    patches, _, _ = plan_slides(slides, slides, out, field)
    return time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, len(patches)


def compared(folder: Path, side: int, workers: int, repeats: int) -> tuple[list[float], list[float], int]:
    """Over the bare loop: by the clock with all slides in `workers` processes, and by CPU time with some in one."""
    ratios, cpu, field = [], [], Field(SIZE, places=folder / f"places{side}")
    for repeat in range(repeats):
        out = folder / f"{side}-{repeat}"
        start = time.perf_counter()
        squares = packed(folder / "slides", out, field, workers)
        ours = time.perf_counter() - start
        ratios.append(seconds_bare(squares, side, workers) / ours)
        start = time.process_time()
        some = packed(folder / "some", out / "alone", field, 1)
        ours, start = time.process_time() - start, time.process_time()
        bare_loop(some, side)
        cpu.append((time.process_time() - start) / ours)
        shutil.rmtree(out)
    return ratios, cpu, len(squares)


def write_cohort(folder: Path, edge: int, slides: int, most: int) -> None:
    """Four slides under as many names as asked, some of them, and their grids of two sides."""
    for name in ("slides", "some", "places256", "places512"):
        (folder / name).mkdir()
    for number in range(slides):
        name = f"s{number:02d}"
        path = folder / "slides" / f"{name}.tif"
        if number < 4:
            write_slide(path, edge, number)
        else:
            path.symlink_to(folder / "slides" / f"s{number % 4:02d}.tif")
        if number < max(slides // 4, 1):
            (folder / "some" / f"{name}.tif").symlink_to(path)
        for side in (256, 512):
            write_coordinates(folder / f"places{side}" / f"{name}.h5", grid_of(edge, side, most), side)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small slides, few patches")
    quick = parser.parse_args().quick
    edge, slides, most, repeats, coordinates = (1536, 2, 4, 1, 2_000) if quick else (8192, 24, 225, 4, 1_000_000)
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        write_cohort(folder, edge, slides, most)
        reduced, reduced_cpu, count = compared(folder, 512, workers, repeats)
        plain, plain_cpu, _ = compared(folder, 256, workers, repeats)
        (folder / "ten").mkdir()
        (folder / "places").mkdir()
        for number in range(10):
            (folder / "ten" / f"s{number:02d}.tif").symlink_to(folder / "slides" / "s00.tif")
            corners = generator("slides benchmark", "places", number).integers(0, edge - 512, (coordinates // 10, 2))
            write_coordinates(folder / "places" / f"s{number:02d}.h5", corners, 512)
        field = Field(SIZE, places=folder / "places")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            planning, peak, planned_patches = pool.submit(planned, folder / "ten", folder / "plan", field).result()
    loop = f"openslide and Pillow, {workers} processes, {count:,} patches of {SIZE} px"
    found = {
        "packing_over_bare": figure(reduced, "", ">= 0.9", len(reduced), loop),
        "cpu_over_bare": figure(reduced_cpu, "", None, len(reduced_cpu), "the same in one process, CPU time"),
        "level_over_bare": figure(plain, "", None, len(plain), loop + ", read as they are"),
        "level_cpu": figure(plain_cpu, "", None, len(plain_cpu), "the same in one process, CPU time"),
        "planning_seconds": figure([planning], "s", "<= 10", planned_patches, "coordinates of ten slides, one process"),
        "planning_memory": figure([peak], "GiB", "<= 1", planned_patches, "the whole process, a fresh one"),
    }
    report("slides", found, ["openslide-python", "tifffile", "pillow"])


if __name__ == "__main__":
    main()
