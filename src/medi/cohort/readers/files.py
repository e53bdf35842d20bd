"""The image files below a folder, in one order on every machine."""

import os
from pathlib import Path

from medi.errors import MediError

SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")


def list_images(root: Path) -> list[str]:
    """Paths relative to `root`, "/" between parts, sorted; hidden ones are passed over, folder links not followed."""
    if not root.is_dir():
        raise MediError(f"{root}: no such folder")
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        below = Path(folder).relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        found += [prefix + n for n in names if n.lower().endswith(SUFFIXES) and not n.startswith(".")]
    if not found:
        raise MediError(f"{root}: no images here ({', '.join(SUFFIXES)})")
    return sorted(found)
