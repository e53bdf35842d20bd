"""Latents of training patches: encoded once, into a store with checksums beside their pixels (P4, P12).

A store is named after what decides it: the autoencoder's hash, the pixels, the number of views. A kill costs one unit
of UNIT patches; a unit whose bytes do not match its checksum is encoded again.
"""

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16, Float32, Float64, Int64

from medi.cohort.pixels import Pixels, Sums, reserve, write_checksums
from medi.cohort.table import Cohort
from medi.cohort.turns import VIEWS
from medi.core.errors import MediError
from medi.core.files import check_format, content_hash, read_json, write_json
from medi.core.lines import line_of, parse_line
from medi.core.locks import holder, whole
from medi.core.progress import Advance, unheard
from medi.core.sharding import process
from medi.models.autoencoder import Autoencoder, psnr
from medi.models.network import NetworkSettings
from medi.models.space import LatentEntry, LatentSpace, PixelSpace, Space, check_same, turned_patches
from medi.training.data import Views
from medi.training.recipe import Recipe

FOLDER, STORE, HEAD = "latents", "latents.npy", "latents.json"  # beside pixels; in the folder of a store
UNIT = 64  # patches
WAIT = 1.0  # seconds between two looks at a store that another process encodes
TRIED = 32  # patches of the round trip
LEAST_SPREAD = 1e-4  # deviation of a channel that says nothing
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Ground:
    """What a network is trained on: the space of its images, what its file says of latents, and the views of the
    training and the validation patches; None for those that are taken from pixels when they are drawn."""

    space: Space = field(default_factory=PixelSpace)
    entry: LatentEntry | None = None
    training: Views | None = None
    validation: Views | None = None

    def network(self, settings: NetworkSettings) -> NetworkSettings:
        """The network as it is trained here: on pixels as it is, on latents without folding."""
        return settings.on_latents(self.entry["channels"], self.entry["stride"]) if self.entry else settings


@dataclass(frozen=True)
class LatentStore:
    """The latents of patches: float16 [N, views, c, v, u], a view for each turn of `medi.cohort.turns.dihedral`."""

    store: Float16[np.ndarray, "N views c v u"]
    sums: Sums | None
    mean: Sequence[float]
    std: Sequence[float]

    def standardised(self, space: LatentSpace) -> Views:
        """Views as the network of this space sees them."""

        def views(rows: Int64[np.ndarray, " n"], turns: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n c h w"]:
            if self.sums is not None:
                self.sums.check(self.store, rows)
            found = np.asarray(self.store[rows, turns], dtype=np.float32)
            return space.standardised(torch.from_numpy(found)).numpy()

        return views


def prepared(
    cohort: Cohort, validation: Cohort | None, recipe: Recipe, folder: Path, progress: Advance = unheard
) -> Ground:
    """The ground of a training: pixels, or the latents of the recipe's autoencoder, which are encoded now.

    They lie beside the pixels where these are packed and their folder can be written, else in `folder`. MediError where
    the autoencoder's round trip is poorer than the recipe allows.
    """
    if not recipe.autoencoder:
        return Ground()
    autoencoder, views = Autoencoder.open(recipe.autoencoder), VIEWS if recipe.dihedral else 1
    quality = round_trip_psnr(autoencoder, cohort.images)
    check_round_trip(autoencoder, quality, recipe.least_psnr)
    store = latents_of(cohort.images, autoencoder, place_of(cohort.images, folder), views, progress)
    entry: LatentEntry = {
        "autoencoder": autoencoder.name,
        "hash": autoencoder.hash,
        "channels": autoencoder.channels,
        "stride": autoencoder.stride,
        "mean": store.mean,
        "std": store.std,
        "psnr": round(quality, 2),
    }
    space = LatentSpace(lambda: autoencoder.coder, entry["mean"], entry["std"])
    held = None
    if validation is not None and len(validation):
        place = place_of(validation.images, folder)
        held = latents_of(validation.images, autoencoder, place, views, progress).standardised(space)
    return Ground(space, entry, store.standardised(space), held)


def network_of(settings: NetworkSettings, recipe: Recipe) -> NetworkSettings:
    """The network as the recipe trains it."""
    if not recipe.autoencoder:
        return settings
    found = Autoencoder.open(recipe.autoencoder)
    return settings.on_latents(found.channels, found.stride)


def round_trip_psnr(autoencoder: Autoencoder, pixels: Pixels) -> float:
    """The PSNR (dB) of up to TRIED patches, evenly spaced, after a round trip."""
    chosen = pixels[np.unique(np.linspace(0, len(pixels) - 1, min(TRIED, len(pixels))).astype(np.int64))]
    return psnr(chosen, autoencoder.round_trip(chosen))


def check_round_trip(autoencoder: Autoencoder, found: float, least: float) -> None:
    """Refuse an autoencoder that loses too much of these patches."""
    if found < least:
        raise MediError(
            f"autoencoder {autoencoder.name}: these patches come back with {found:.1f} dB, less than {least:g}, and no "
            "model on its latents makes better ones; take larger patches, another autoencoder, or a lower "
            "training.least_psnr (--least-psnr)"
        )


def place_of(pixels: Pixels, folder: Path) -> Path:
    """Where the latents of these pixels lie: beside a packed store that may be written, else in `folder`."""
    packed = getattr(pixels.store, "filename", None)
    beside = Path(packed).parent if packed else folder
    return (beside if os.access(beside, os.W_OK) else folder) / FOLDER


def latents_of(
    pixels: Pixels, autoencoder: Autoencoder, folder: Path, views: int = VIEWS, progress: Advance = unheard
) -> LatentStore:
    """The latents of patches, each in the first `views` of its turns; encoded where they are not in `folder` yet.

    progress(patches, total). The same call goes on after a kill. Of processes that work together the first encodes, the
    others wait for it.
    """
    place = folder / content_hash(autoencoder.hash, pixels.digest(), views)
    if process("WORLD_SIZE", 1) > 1:
        from accelerate import PartialState

        with PartialState(cpu=not torch.cuda.is_available()).main_process_first():
            return _found_or_made(place, pixels, autoencoder, views, progress)
    return _found_or_made(place, pixels, autoencoder, views, progress)


def _found_or_made(place: Path, pixels: Pixels, autoencoder: Autoencoder, views: int, progress: Advance) -> LatentStore:
    """The store, encoded here or by another process that works on it now, such as the training of the other model."""
    while not _is_there(place):
        try:
            with whole(place):
                if not _is_there(place):
                    _encode(place, pixels, autoencoder, views, progress)
        except MediError:
            if holder(place) is None and not _is_there(place):  # another may have ended just now
                raise
            time.sleep(WAIT)
    return opened(place, autoencoder)


def _is_there(place: Path) -> bool:
    return (place / HEAD).exists() and (place / STORE).exists()


def opened(place: Path, autoencoder: Autoencoder) -> LatentStore:
    """The finished store in a folder; MediError where it is damaged, or of another autoencoder."""
    head = read_json(place / HEAD)
    check_format(head.get("format_version"), FORMAT_VERSION, place / HEAD)
    check_same(autoencoder, head, str(place))
    try:
        store = np.load(place / STORE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MediError(
            f"{place / STORE}: not a whole store of latents ({error}); delete it and train again"
        ) from error
    return LatentStore(store, Sums.of(place / STORE, store), head["mean"], head["std"])


@dataclass(frozen=True)
class _Unit:
    """What is known of an encoded unit: its checksum, and per channel the sums of its numbers and of their squares."""

    unit: int
    checksum: str
    sums: Sequence[float]
    squares: Sequence[float]


def _encode(place: Path, pixels: Pixels, autoencoder: Autoencoder, views: int, progress: Advance) -> None:
    """Encode all units that are not done, then give the store its name, its checksums and its head."""
    side = pixels.size // autoencoder.stride
    shape = (len(pixels), views, autoencoder.channels, side, side)
    work, log = place / f"unfinished-{STORE}", place / "done.jsonl"
    done = _done(work, log, shape)
    store = np.load(work, mmap_mode="r+")
    with log.open("a", encoding="utf-8") as handle:
        for number in range(-(-len(pixels) // UNIT)):
            if number not in done:
                done[number] = _encode_unit(store, number, pixels, autoencoder)
                handle.write(line_of(asdict(done[number])))
                handle.flush()
            progress(min((number + 1) * UNIT, len(pixels)), len(pixels))
    store.flush()
    del store
    work.replace(place / STORE)
    units = [done[number] for number in sorted(done)]
    write_checksums(place / STORE, UNIT, [unit.checksum for unit in units])
    mean, std = _spread(units, len(pixels) * views * side * side)
    head = {"hash": autoencoder.hash, "channels": autoencoder.channels, "stride": autoencoder.stride}
    head |= {"size": pixels.size, "views": views, "mean": mean, "std": std}
    write_json(place / HEAD, {"format_version": FORMAT_VERSION, **head})
    log.unlink()


def _encode_unit(
    store: Float16[np.ndarray, "N views c v u"], number: int, pixels: Pixels, autoencoder: Autoencoder
) -> _Unit:
    """Write the latents of one unit, turned before they are encoded."""
    rows = np.arange(number * UNIT, min((number + 1) * UNIT, len(pixels)))
    images, part = pixels[rows], np.empty((len(rows), *store.shape[1:]), dtype=np.float16)
    for turn in range(store.shape[1]):
        part[:, turn] = autoencoder.encode(turned_patches(images, np.full(len(rows), turn))).numpy()
    store[rows] = part
    return _described(number, part)


def _described(number: int, part: Float16[np.ndarray, "n views c v u"]) -> _Unit:
    exact = part.astype(np.float64)
    sums, squares = exact.sum(axis=(0, 1, 3, 4)), np.square(exact).sum(axis=(0, 1, 3, 4))
    return _Unit(number, content_hash(part.tobytes()), sums.tolist(), squares.tolist())


def _done(work: Path, log: Path, shape: tuple[int, ...]) -> dict[int, _Unit]:
    """The units of the log whose bytes are in the store; an altered line is passed over.

    A store of zeros is made where there is none of this shape. One that a kill left with its name and without its head
    goes back to work.
    """
    if not work.exists() and (named := work.with_name(STORE)).exists():
        named.replace(work)
    if not work.exists() or not log.exists() or np.load(work, mmap_mode="r").shape != shape:
        reserve(work, shape, np.float16)
        log.unlink(missing_ok=True)
        return {}
    store, done = np.load(work, mmap_mode="r"), dict[int, _Unit]()
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            unit = _Unit(**parse_line(line))
        except (ValueError, TypeError):
            continue
        if content_hash(store[unit.unit * UNIT : (unit.unit + 1) * UNIT].tobytes()) == unit.checksum:
            done[unit.unit] = unit
    return done


def _spread(units: Sequence[_Unit], count: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over all numbers of all views."""
    mean: Float64[np.ndarray, " c"] = np.sum([unit.sums for unit in units], axis=0) / count
    variance = np.sum([unit.squares for unit in units], axis=0) / count - mean**2
    return mean.tolist(), np.sqrt(np.maximum(variance, LEAST_SPREAD**2)).tolist()
