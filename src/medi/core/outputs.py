"""What a folder may be written into: nothing of the user's is overwritten, nothing lands among his images (P15)."""

import json
import re
from collections.abc import Collection, Iterable, Iterator
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
DRAWN = frozenset(
    {"counts.png", "attributes.png", "grid.png", "sweep.png"}
)  # by us, perhaps before a file of OURS was there
LOOKED_AT = 2_000  # entries of a folder, and of each folder in it
HASH = re.compile(r"[0-9a-f]{12,64}")
OTHER_COHORT = "(other rows, pixels or hold-out)"
HASHED = {  # what a hash stands for, by the first part of its name
    **dict.fromkeys(("data", "info", "cohort"), f"cohort {OTHER_COHORT}"),
    "model": "model",
    "autoguidance_model": "model of autoguidance",
    "base": "model to begin with",
    "plan": "plan",
    "ids": "choice of patches",
    "labels": "set of labels",
    "learned_from": "training set (other rows or features)",
    "shown": "set of patches to show (other rows or features)",
    "made_again": "set of changed features",
    "real": f"cohort {OTHER_COHORT}",
}
Change = tuple[str, Any, Any]  # the name of an entry, its old and its new value
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
    cohorts = new.get("cohorts", ()) if isinstance(new, dict) else ()
    if found := in_words(changes, "{name} {old}, now {new}", "another ", cohorts):
        more = f", and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise MediError(
            f"{folder}: holds another {what}: {'; '.join(found[:SHOWN])}{more}; choose another --out, or delete it"
        )


def in_words(changes: Iterable[Change], form: str, another: str = "", cohorts: Collection[str] = ()) -> list[str]:
    """Changes as a user reads them, each text once: the name of the setting with its old and new value.

    A hash tells a reader nothing: in its place stands what became another one, after `another`. form: with name, old
    and new. cohorts: names whose hashes are of cohorts.

    >>> in_words([("seed", None, 1), ("data", "0" * 16, "f" * 16)], "{name} {old}, now {new}", "another ")
    ['seed not set, now 1', 'another cohort (other rows, pixels or hold-out)']
    """
    texts: list[str] = []
    for path, old, new in changes:
        name = path.removeprefix(".")
        if any(isinstance(value, str) and HASH.fullmatch(value) for value in (old, new)):
            what = (
                f"cohort {name} {OTHER_COHORT}" if name in cohorts else HASHED.get(name.split(".")[0], f"{name} (hash)")
            )
            texts.append(another + what)
        else:
            texts.append(form.format(name=name, old=_short(old), new=_short(new)))
    return list(dict.fromkeys(texts))


def shown(value: object) -> str:
    """A value of a setting as a user would write it."""
    return "not set" if value is None else repr(value)


def _short(value: object) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def plain(content: Any) -> Any:
    """As our JSON files give it back."""
    from medi.core.files import _plain as as_plain  # not above: it loads pandas, and every verb comes by here

    return json.loads(json.dumps(as_plain(content)))


def differences(name: str, old: Any, new: Any) -> list[Change]:
    """What differs between two plain values, entry by entry: ("recipe.batch", 8, 16)."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [line for key in keys for line in differences(f"{name}.{key}", old.get(key), new.get(key))]
    return [] if old == new else [(name, old, new)]
