"""The image files below a folder, in one order on every machine."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from medi.cohort.readers.normalise import Notes, Settings, some
from medi.core.errors import MediError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2")


def list_images(root: Path, notes: Notes, settings: Settings) -> list[str]:
    """Paths relative to `root`, "/" between parts, sorted; hidden ones are passed over, files of other kinds noted.

    Links to folders are not followed, and noted. Links that lead nowhere are an error, or left out and noted.
    """
    if not root.is_dir():
        raise MediError(f"{root}: no such folder")
    entries = dict(_entries(root, ""))
    if folders := sorted(name for name, entry in entries.items() if entry.is_dir()):
        notes.append(f"links to folders are not followed: {some(folders)}")
    files = {name: entry for name, entry in entries.items() if not entry.is_dir()}
    images = {name: entry for name, entry in files.items() if name.lower().endswith(SUFFIXES)}
    others = Counter(Path(name).suffix.lower() or "no suffix" for name in sorted(files.keys() - images.keys()))
    if not images:
        found = f"; its files: {_counted(others)}" if others else ""
        raise MediError(f"{root}: no images here ({', '.join(SUFFIXES)}){found}")
    if others:
        notes.append(f"passed over, not of a kind of image that is read here: {_counted(others)}")
    odd = sorted(name for name, entry in images.items() if not entry.is_file() and not entry.is_symlink())
    odd += sorted(name for name, entry in images.items() if entry.is_symlink() and _is_special(entry))
    notes.reject([f"{root / name}" for name in odd], "not a regular file", "remove it", settings)
    images = {name: entry for name, entry in images.items() if name not in odd}
    _check_names(root, images)
    broken = sorted(name for name, entry in images.items() if entry.is_symlink() and not entry.is_file())
    notes.reject([f"{root / name}" for name in broken], "a link that leads nowhere", "mend or remove it", settings)
    return sorted(images.keys() - set(broken))


def _counted(suffixes: "Counter[str]") -> str:
    """'.svs (12), .xml (1)'"""
    return some([f"{suffix} ({count:,})" for suffix, count in suffixes.most_common()])


def _is_special(entry: "os.DirEntry[str]") -> bool:
    """Whether a link leads to a pipe, a socket or a device, which would be waited for for ever."""
    return os.path.exists(entry.path) and not entry.is_file()


def _entries(folder: Path | str, prefix: str) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """Everything below a folder that is not hidden and not a folder itself; a link to a folder counts as no folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(entry.path, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, entry


def _check_names(root: Path, names: dict[str, "os.DirEntry[str]"]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(name).decode(errors="backslashreplace")
            raise MediError(f"{root}: the file name {shown} is not UTF-8; rename the file") from error
