"""What a folder may be written into: nothing of the user's is overwritten, nothing lands among his images (P15)."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from medi.core.errors import MediError

IMAGES = frozenset(
    {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".jp2", ".webp", ".svs", ".ndpi", ".mrxs"}
)
OURS = (
    *("cohort.json", "run.json", "audit.json", "certificate.json", "plan.json", "results.json", "log.jsonl", "parts"),
    *("report.html", "fidelity.parquet", "utility.parquet", "model.safetensors"),
)
DRAWN = frozenset({"counts.png", "attributes.png", "grid.png"})  # by us, perhaps before a file of OURS was there
LOOKED_AT = 2_000  # entries of a folder, and of each folder in it
SHOWN, LONGEST = 3, 60  # differences in a message, letters of a value


def refuse_images(folder: Path) -> None:
    """Refuse to write into a folder of images: one that holds some, itself or one level down, and no file of ours."""
    if not folder.is_dir() or any((folder / name).exists() for name in OURS):
        return
    for path in _entries(folder):
        if path.suffix.lower() in IMAGES and path.name not in DRAWN:
            raise MediError(f"{folder}: is a folder of images ({path.relative_to(folder)}); choose another --out")


def _entries(folder: Path) -> Iterator[Path]:
    try:
        for path in islice(folder.iterdir(), LOOKED_AT):
            yield path
            if path.is_dir() and not path.name.startswith("."):
                yield from islice(path.iterdir(), LOOKED_AT)
    except OSError:  # whoever writes there says so
        return


def refuse_other(folder: Path, what: str, old: object, new: object) -> None:
    """Refuse to overwrite a result by another one, naming what differs with its old and its new value.

    What an older version did not write counts as the same.

    >>> refuse_other(Path("out"), "hold-out", {"seed": 0}, {"seed": 1})
    Traceback (most recent call last):
    medi.core.errors.MediError: out: holds another hold-out: seed 0, now 1; choose another --out, or delete it
    """
    changes = [change for change in differences("", plain(old), plain(new)) if change[1] is not None]
    found = [f"{name.removeprefix('.')} {_short(before)}, now {_short(after)}" for name, before, after in changes]
    if found:
        more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise MediError(
            f"{folder}: holds another {what}: {'; '.join(found[:SHOWN])}{more}; choose another --out, or delete it"
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def plain(content: Any) -> Any:
    """As our JSON files give it back."""
    from medi.core.files import _plain as as_plain  # not above: it loads pandas, and every verb comes by here

    return json.loads(json.dumps(as_plain(content)))


def differences(name: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """What differs between two plain values, entry by entry: ("recipe.batch", 8, 16)."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [line for key in keys for line in differences(f"{name}.{key}", old.get(key), new.get(key))]
    return [] if old == new else [(name, old, new)]
