"""Packing against a bare Pillow loop in as many processes, and random batches from the packed store.

python benchmarks/packing.py [--quick]   prints one JSON object as its last line.
"""

import argparse
import io
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from medi.cohort import readers
from medi.cohort.packing import pack
from medi.cohort.pixels import Pixels
from medi.core.seeds import generator

SOURCE, SIZE = 256, 64  # pixels: a published TCGA-UT patch, a training patch
BATCH, BATCHES = 64, 400


def bare_loop(paths: list[str]) -> int:
    """What anyone would write: open, convert, resize, keep the array."""
    kept = 0
    for path in paths:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        kept += np.asarray(small).shape[0] == SIZE
    return kept


def make_images(folder: Path, count: int) -> list[str]:
    """JPEGs of smooth blobs plus grain, about as large as real patches (some 25 KiB); 50 different ones."""
    contents = [_jpeg(i) for i in range(50)]
    paths = [folder / f"class{i % 4}" / f"{i:06d}.jpg" for i in range(count)]
    for path, content in zip(paths, contents * (count // 50 + 1)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [str(path) for path in paths]


def _jpeg(number: int) -> bytes:
    rng, handle = generator("benchmark", number), io.BytesIO()
    coarse = Image.fromarray(rng.integers(90, 250, (24, 24, 3), dtype=np.uint8)).resize((SOURCE, SOURCE))
    grainy = np.asarray(coarse) + rng.normal(0, 12, (SOURCE, SOURCE, 1))
    Image.fromarray(np.clip(grainy, 0, 255).astype(np.uint8)).save(handle, "JPEG", quality=85)
    return handle.getvalue()


def seconds_bare(paths: list[str], workers: int) -> float:
    """The loop over equal shares, in processes started as `pack` starts its own."""
    context = multiprocessing.get_context("forkserver")
    start = time.perf_counter()
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        list(pool.map(bare_loop, [paths[i::workers] for i in range(workers)]))
    return time.perf_counter() - start


def seconds_pack(folder: Path, out: Path, workers: int) -> float:
    """The whole of `pack`: processes, images, checksums, table and head."""
    cohort = readers.read(folder, "folder")
    start = time.perf_counter()
    pack(cohort, folder, out, SIZE, workers=workers)
    return time.perf_counter() - start


def cpu_ratio(folder: Path, out: Path, paths: list[str]) -> float:
    """The same in this one process by its CPU time, which other loads on the machine hardly change."""
    cohort, marks = readers.read(folder, "folder"), [time.process_time()]
    bare_loop(paths)
    marks.append(time.process_time())
    pack(cohort, folder, out, SIZE, workers=1)
    marks.append(time.process_time())
    return (marks[1] - marks[0]) / (marks[2] - marks[1])


def batch_rate(count: int) -> float:
    """Images per second in random batches from a mapped store of `count` patches."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.npy"
        Pixels.of(generator("store").integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)).save(path)
        pixels, order = Pixels.open(path), generator("order").integers(0, count, (BATCHES, BATCH))
        start = time.perf_counter()
        for rows in order:
            pixels[rows]
        return BATCH * BATCHES / (time.perf_counter() - start)


def report(
    speeds: list[tuple[float, float]], cpu: list[float], batches: list[float], count: int, workers: int
) -> dict[str, object]:
    """speeds: images per second of the bare loop and of `pack`, per round; cpu: the ratio in one process."""
    bare = f"bare Pillow loop in {workers} processes, at best {max(b for b, _ in speeds):.0f} images/s"
    rates, ratios = [p for _, p in speeds], [p / b for b, p in speeds]
    best = max(rates) / max(b for b, _ in speeds)
    return {
        "topic": "packing",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {workers} processes",
        "versions": {name: version(name) for name in ("pillow", "numpy", "pandas")},
        "figures": {
            "packing_over_bare": figure(ratios, ">= 0.9", "ratio of the best speeds of each", count, bare)
            | {"value": best},
            "packing_over_bare_cpu": figure(
                cpu, ">= 0.9", "ratio of CPU times, one process", count, "bare Pillow loop"
            ),
            "packing": figure(rates, None, "images/s, 256 px JPEG to 64 px", count, bare),
            "random_batches": figure(
                batches, ">= 50000", f"images/s, {SIZE} px, batches of {BATCH}", BATCH * BATCHES, ""
            ),
        },
    }


def figure(values: list[float], target: str | None, unit: str, n: int, against: str) -> dict[str, object]:
    spread = max(values) - min(values)
    return {
        "value": statistics.median(values),
        "target": target,
        "unit": unit,
        "n": n,
        "spread": spread,
        "against": against,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    count, rounds, workers = (100, 1, 2) if quick else (5000, 2, 2)
    speeds, cpu = [], []
    with tempfile.TemporaryDirectory() as name:
        many, few = Path(name) / "many", Path(name) / "few"
        paths, some = make_images(many, count), make_images(few, count // 8)
        for i in range(rounds):
            bare, packed = seconds_bare(paths, workers), seconds_pack(many, Path(name) / f"packed{i}", workers)
            speeds.append((count / bare, count / packed))
            cpu.append(cpu_ratio(few, Path(name) / f"alone{i}", some))
    batches = [batch_rate(2000 if quick else 20000) for _ in range(rounds)]
    print(json.dumps(report(speeds, cpu, batches, count, workers)))


if __name__ == "__main__":
    main()
