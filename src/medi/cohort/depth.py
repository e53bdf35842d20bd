"""What an image file says of itself beyond its pixels: the range of its values, and how many pictures it holds.

Cameras of 10, 12 or 14 bits often write files of 16: without the real range such an image would come out black.
"""

import numpy as np
from PIL import Image

FULL = 65_535  # the greatest value of 16 bits
RANGES = {2**bits - 1 for bits in range(9, 16)}  # of 9 to 15 bits; another greatest value is that of one image alone
DARK = 15  # of 255: the greatest value of 12 bits that were taken for 16
UNSTATED = (
    "no value is above 4,095 of 65,535: black, or data of 12 bits whose range the file does not state; write TIFF with "
    "the tag MaxSampleValue, multiply the values by 16, or save 8 bits"
)
SEVERAL = ("GIF", "PNG", "WEBP", "TIFF")  # formats with frames or pages; the further ones of MPO are no pictures
BITS_PER_SAMPLE, MAX_SAMPLE, SMAX_SAMPLE = 258, 281, 341  # tags of TIFF
SUBFILE, ADDITIONAL = 254, 0b101  # its bits for a smaller copy and for a mask


def is_deep(image: Image.Image) -> bool:
    """Whether an opened file, not decoded yet, has values of 16 bits."""
    modes = [
        str(part)
        for tile in getattr(image, "tile", [])
        for part in (tile[3] if isinstance(tile[3], tuple) else (tile[3],))
    ]
    return image.mode.startswith("I;16") or any(";16" in mode for mode in modes)


def stated_range(image: Image.Image) -> int:
    """The greatest value that a file of 16 bits can hold as its header says; 65,535 where that says nothing else."""
    tags = getattr(image, "tag_v2", {})
    stated = [_greatest(tags.get(tag)) for tag in (SMAX_SAMPLE, MAX_SAMPLE)]
    stated.append(2 ** _greatest(tags.get(BITS_PER_SAMPLE)) - 1)
    return next((value for value in stated if value in RANGES), FULL)


def check_colours(image: Image.Image) -> None:
    """Refuse colours of 16 bits of which fewer are in use: they come with the upper 8 alone. ValueError says so."""
    if is_deep(image) and not image.mode.startswith("I;16") and stated_range(image) < FULL:
        raise ValueError(f"colours of 16 bits that reach {stated_range(image):,} alone are not read; save 8 bits")


def is_dark(image: Image.Image) -> bool:
    """Whether a decoded image has no value above those of 12 bits."""
    return int(np.asarray(image).max(initial=0)) <= DARK


def _greatest(value: object) -> int:
    """The greatest of a tag's numbers; 0 where it has none."""
    numbers = value if isinstance(value, tuple) else (value,)
    return max((int(number) for number in numbers if isinstance(number, int | float)), default=0)


def check_alone(image: Image.Image) -> None:
    """Refuse a file of several pictures, of which the first alone would be taken. ValueError says how many there are.

    Smaller copies and masks in a TIFF file are no pictures of their own.
    """
    frames = getattr(image, "n_frames", 1)
    if frames < 2 or image.format not in SEVERAL:
        return
    pictures = sum(_is_picture(image, number) for number in range(frames)) if image.format == "TIFF" else frames
    image.seek(0)
    if pictures > 1:
        raise ValueError(f"holds {pictures} pictures (frames or pages), of which one would be taken; save each alone")


def _is_picture(image: Image.Image, number: int) -> bool:
    image.seek(number)
    return not int(getattr(image, "tag_v2", {}).get(SUBFILE, 0)) & ADDITIONAL
