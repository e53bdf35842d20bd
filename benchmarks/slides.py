"""Patches from whole slides: packing against a bare openslide and Pillow loop, and planning a million coordinates.

python benchmarks/slides.py [--quick]

Slides of two levels, tiles of 256 px without compression, are written first. `packing_over_bare`: patches a second of
`plan_slides` and `pack` together over those of a loop that opens each slide once and reads, converts and resizes the
same squares, in as many processes. `cpu_over_bare`: the same in one process by its CPU time. Planning: coordinates of
TRIDENT, as many in all, from ten slides. The last line is one JSON object; spreads are over repeats.
"""

import argparse
import multiprocessing
import os
import resource
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

SIZE, SIDE, TILE = 256, 512, 256  # pixels of a patch, of its square, of a tile
Squares = list[tuple[str, int, int]]


def write_slide(path: Path, edge: int, number: int) -> None:
    """Smooth tissue with grain, half a micrometre per pixel."""
    rng = generator("slides benchmark", number)
    coarse = Image.fromarray(rng.integers(90, 200, (edge // 64, edge // 64, 3), dtype=np.uint8)).resize((edge, edge))
    pixels = np.asarray(coarse) + rng.integers(-10, 10, (edge, edge, 1), dtype=np.int16)
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    with tifffile.TiffWriter(path) as file:
        for level, reduced in enumerate((pixels, pixels[::2, ::2])):
            kept = {"tile": (TILE, TILE), "photometric": "rgb", "metadata": None, "subfiletype": int(level > 0)}
            file.write(reduced, resolution=(20_000, 20_000), resolutionunit="CENTIMETER", **kept)


def write_coordinates(path: Path, edge: int, count: int, number: int) -> None:
    import h5py

    corners = generator("slides benchmark", "places", number).integers(0, edge - SIDE, (count, 2))
    with h5py.File(path, "w") as file:
        file["coords"] = corners
        file["coords"].attrs["patch_size_level0"] = SIDE


def bare_loop(squares: Squares) -> int:
    """What anyone would write, with each slide opened once."""
    import openslide

    slides: dict[str, openslide.OpenSlide] = {}
    kept = 0
    for path, x, y in squares:
        slide = slides.setdefault(path, openslide.OpenSlide(path) if path not in slides else slides[path])
        level = slide.get_best_level_for_downsample(SIDE / SIZE)
        pixels = round(SIDE / slide.level_downsamples[level])
        image = slide.read_region((x, y), level, (pixels, pixels)).convert("RGB")
        kept += np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)).shape[0] == SIZE
    return kept


def seconds_bare(squares: Squares, workers: int) -> float:
    context, share = multiprocessing.get_context("forkserver"), -(-len(squares) // workers)
    start = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        list(pool.map(bare_loop, [squares[i * share : (i + 1) * share] for i in range(workers)]))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small slides, few patches")
    quick = parser.parse_args().quick
    edge, count, repeats, coordinates = (1024, 8, 1, 2_000) if quick else (8192, 2_000, 3, 1_000_000)
    workers, ratios, cpu = os.cpu_count() or 1, [], []
    with tempfile.TemporaryDirectory() as folder:
        slides, places = Path(folder) / "slides", Path(folder) / "places"
        slides.mkdir()
        places.mkdir()
        for number in range(2):
            write_slide(slides / f"s{number}.tif", edge, number)
            write_coordinates(places / f"s{number}.h5", edge, count, number)
        field = Field(SIZE, places=places)
        for repeat in range(repeats):
            start = time.perf_counter()
            squares = packed(slides, Path(folder) / f"packed{repeat}", field, workers)
            ours = time.perf_counter() - start
            ratios.append(seconds_bare(squares, workers) / ours)
            start = time.process_time()
            packed(slides, Path(folder) / f"alone{repeat}", field, 1)
            ours, start = time.process_time() - start, time.process_time()
            bare_loop(squares)
            cpu.append((time.process_time() - start) / ours)
        for number in range(10):
            target = slides / f"s{number}.tif"
            if not target.exists():
                target.symlink_to(slides / "s0.tif")
            write_coordinates(places / f"s{number}.h5", edge, coordinates // 10, number)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            planning, peak, planned_patches = pool.submit(planned, slides, Path(folder) / "plan", field).result()
    loop = f"openslide and Pillow, {workers} processes, {len(squares):,} patches of {SIZE} px"
    found = {
        "packing_over_bare": figure(ratios, "", ">= 0.9", len(ratios), loop),
        "cpu_over_bare": figure(cpu, "", None, len(cpu), "the same in one process, CPU time"),
        "planning_seconds": figure([planning], "s", "<= 10", planned_patches, "coordinates of ten slides, one process"),
        "planning_memory": figure([peak], "GiB", "<= 1", planned_patches, "the whole process, a fresh one"),
    }
    report("slides", found, ["openslide-python", "tifffile", "pillow"])


if __name__ == "__main__":
    main()
