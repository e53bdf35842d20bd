"""From a cohort to features: in memory, or kept part by part in a folder, so that a kill loses one part (P12)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import safe_name
from medi.core.progress import Advance, Tally, unheard
from medi.core.seals import KEY, UNSEALED, read_whole
from medi.core.sharding import WHOLE, Shard, share
from medi.core.tensors import write_tensors
from medi.evaluation.encoders.contract import Encoder, Features, Shown
from medi.evaluation.features import Embedded

PART = 8  # batches in a part


def embed(
    cohort: Cohort, chosen: Encoder, batch: int | None = None, progress: Advance = unheard
) -> Float32[np.ndarray, "n d"]:
    """Features of every patch of a cohort, in its order; real and synthetic cohorts come through here alike (P2).

    The batch size changes no bit of the embedded descriptor, and of networks nothing above rounding. The next batch is
    read and prepared while the encoder works.
    """
    size = batch or chosen.batch
    starts = range(0, len(cohort), size)
    out = np.empty((len(cohort), chosen.dimension), dtype=np.float32)

    def prepared(start: int) -> Shown:
        return chosen.prepared(cohort.images[slice(start, start + size)])

    for start, images in zip(starts, _ahead(prepared, starts)):
        out[start : start + len(images)] = chosen.features(images)
        progress(start + len(images), len(cohort))
    return out


def embedded(cohort: Cohort, chosen: Encoder, progress: Advance = unheard) -> Embedded:
    """The features of a cohort's patches beside its table."""
    return Embedded(embed(cohort, chosen, progress=progress), cohort.table)


def _ahead(work: Callable[[int], Shown], items: Iterable[int]) -> Iterator[Shown]:
    """The results of `work` in order, each begun when the one before it is handed out."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = None
        for item in items:
            following = pool.submit(work, item)
            if waiting:
                yield waiting.result()
            waiting = following
        if waiting:
            yield waiting.result()


def cached(
    cohort: Cohort, chosen: Encoder, cache: Path | None, progress: Advance = unheard
) -> Float32[np.ndarray, "n d"]:
    """`embed`, kept in a folder under the hashes of cohort and encoder; without a folder it is `embed`."""
    if cache is None:
        return embed(cohort, chosen, progress=progress)
    parts = _parts(cohort, chosen, cache)
    _fill(cohort, chosen, parts, list(parts), progress)
    return _gather(parts, chosen)


def embed_share(
    cohort: Cohort, chosen: Encoder, cache: Path, shard: Shard = WHOLE, progress: Advance = unheard
) -> Float32[np.ndarray, "n d"] | None:
    """`cached` by many: part i of n, and within it each process, embeds every n-th part of the cohort.

    Who finds all parts there returns the features of all patches, the others None.
    """
    parts = _parts(cohort, chosen, cache)
    _fill(cohort, chosen, parts, share(list(parts), shard), progress)
    return _gather(parts, chosen) if all(path.exists() for path in parts) else None


def _parts(cohort: Cohort, chosen: Encoder, cache: Path) -> dict[Path, slice]:
    """The files of a cohort's features and the rows of each, whole batches."""
    folder = cache / f"{cohort.digest()}-{safe_name(chosen.name)}-{chosen.hash}"
    rows = PART * chosen.batch
    starts = range(0, len(cohort), rows)
    return {folder / f"{start:09d}.safetensors": slice(start, min(start + rows, len(cohort))) for start in starts}


def _fill(cohort: Cohort, chosen: Encoder, parts: dict[Path, slice], mine: Sequence[Path], progress: Advance) -> None:
    """Embed those of my parts that are not there yet."""
    tally = Tally(progress, sum(parts[path].stop - parts[path].start for path in mine))
    for path in mine:
        rows = parts[path]
        if path.exists():
            tally.add(rows.stop - rows.start)
            continue
        part = cohort.select(np.arange(rows.start, rows.stop))
        _write(path, embed(part, chosen, progress=tally.part()))


def _write(path: Path, features: Features) -> None:
    from safetensors.numpy import save_file

    write_tensors(path, lambda temporary: save_file({"features": features}, temporary, {KEY: UNSEALED}))


def _gather(parts: dict[Path, slice], chosen: Encoder) -> Features:
    empty = np.empty((0, chosen.dimension), dtype=np.float32)
    return np.concatenate([empty, *(_read(path, rows, chosen.dimension) for path, rows in parts.items())])


def _read(path: Path, rows: slice, dimension: int) -> Features:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    data = read_whole(path, "delete it and run again")
    try:
        features = np.asarray(load(data)["features"], dtype=np.float32)
    except (SafetensorError, KeyError) as error:
        raise MediError(f"{path}: not readable as features ({error}); delete it and run again") from error
    if features.shape != (rows.stop - rows.start, dimension):
        raise MediError(f"{path}: holds features of shape {list(features.shape)}; delete it and run again")
    return features
