"""Images of 9 to 16 bits, animations, files of several pages, bombs: read rightly, or refused by name (P12)."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from medi.cohort import readers
from medi.cohort.image_fit import read_patch, read_patches
from medi.cohort.loose_images import read_any
from medi.cohort.table import Cohort
from medi.core.errors import MediError

GREY = np.linspace(0, 4095, 64).astype(np.uint16).reshape(8, 8)  # as a camera of 12 bits writes it
EXPECTED = (GREY.astype(np.uint32) * 255 // 4095).astype(np.uint8)
MAX_SAMPLE, SUBFILE = 281, 254


def packed(folder: Path, **options: object) -> Cohort:
    return readers.read(folder, "folder").pack(folder.parent / "packed", 8, workers=1, **options)  # type: ignore[arg-type]


def deep(path: Path, values: np.ndarray = GREY, **tags: int) -> Path:
    """A grey image of 16 bits, with tags where it is TIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    found = ImageFileDirectory_v2()
    for tag, value in tags.items():
        found[int(tag.removeprefix("tag"))] = value
    Image.fromarray(values).save(path, tiffinfo=found) if tags else Image.fromarray(values).save(path)
    return path


def pages(path: Path, count: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [Image.new("RGB", (8, 8), (40 * i, 90, 120)) for i in range(count)]
    if count > 1:
        images[0].save(path, save_all=True, append_images=images[1:])
    else:
        images[0].save(path)
    return path


def test_twelve_bits_whose_range_the_file_states_fill_the_range(tmp_path: Path) -> None:
    deep(tmp_path / "in" / "A" / "0.tif", tag281=4095)
    np.testing.assert_array_equal(packed(tmp_path / "in").images[:][0, :, :, 0], EXPECTED)
    np.testing.assert_array_equal(read_patch(tmp_path / "in" / "A" / "0.tif", "0.tif")[:, :, 0], EXPECTED)


def test_the_greatest_value_of_one_image_is_no_range(tmp_path: Path) -> None:
    """TIFF's MaxSampleValue often is that of the image itself: each would be stretched in its own way."""
    path = deep(tmp_path / "0.tif", GREY * 12, tag281=int(GREY.max()) * 12)
    np.testing.assert_array_equal(read_patch(path, "x")[:, :, 0], GREY.astype(np.uint32) * 12 * 255 // 65535)


@pytest.mark.parametrize("name", ["0.tif", "0.png"])
def test_a_folder_of_twelve_bits_without_a_range_is_refused(tmp_path: Path, name: str) -> None:
    deep(tmp_path / "in" / "A" / name)
    with pytest.raises(MediError, match=rf"{name}: no value is above 4,095 of 65,535"):
        packed(tmp_path / "in")
    with pytest.raises(MediError, match="no value is above 4,095"):
        read_patch(tmp_path / "in" / "A" / name, name)


def test_dark_images_among_others_of_sixteen_bits_are_named(tmp_path: Path) -> None:
    deep(tmp_path / "in" / "A" / "0.png")
    deep(tmp_path / "in" / "A" / "1.png", GREY * 16)
    found = packed(tmp_path / "in")
    assert found.info["packing"]["dark"] == ["A/0.png"]
    assert found.images[:][1].max() == 254


def test_colours_of_twelve_bits_are_refused_where_they_are_stated_and_where_not(tmp_path: Path) -> None:
    """Pillow keeps the upper 8 of 16 bits, so 12 bits are lost but for 4."""
    path = tmp_path / "in" / "A" / "0.tif"
    path.parent.mkdir(parents=True)
    write_colours(path, np.stack([GREY] * 3, axis=-1))
    with pytest.raises(MediError, match="no value is above 4,095"):
        packed(tmp_path / "in")
    assert not (tmp_path / "packed" / "unfinished").exists(), "mended images are read again"
    write_colours(path, np.stack([GREY] * 3, axis=-1), greatest=4095)
    with pytest.raises(MediError, match="colours of 16 bits that reach 4,095 alone"):
        packed(tmp_path / "in")


def write_colours(path: Path, values: np.ndarray, greatest: int = 0) -> None:
    height, width, _ = values.shape
    write_tiff(path, (width, height), (16, 16, 16), values.tobytes(), {MAX_SAMPLE: greatest} if greatest else {})


def write_tiff(
    path: Path, size: tuple[int, int], bits: tuple[int, ...], content: bytes, more: Mapping[int, int] = {}
) -> None:
    """An uncompressed TIFF of kinds that Pillow reads and does not write."""
    found = ImageFileDirectory_v2()
    colour = 2 if len(bits) == 3 else 1  # RGB, or grey with 0 as black
    entries = {256: size[0], 257: size[1], 259: 1, 262: colour, 277: len(bits), 278: size[1], 279: len(content)}
    for tag, value in (entries | dict(more)).items():
        found[tag] = value
    found[258] = bits
    found[273] = 0  # Pillow adds where the pixels begin
    path.write_bytes(b"II*\0\x08\0\0\0" + found.tobytes(8) + content)


def test_tiff_of_twelve_packed_bits_fills_the_range(tmp_path: Path) -> None:
    """Two values in three bytes."""
    bits = np.unpackbits(GREY.astype(">u2").view(np.uint8)).reshape(-1, 16)[:, 4:]
    write_tiff(tmp_path / "0.tif", (8, 8), (12,), np.packbits(bits).tobytes())
    np.testing.assert_array_equal(read_patch(tmp_path / "0.tif", "0.tif")[:, :, 0], EXPECTED)


@pytest.mark.parametrize("name", ["0.gif", "0.png", "0.webp", "0.tif"])
def test_files_of_several_pictures_are_refused_with_their_number(tmp_path: Path, name: str) -> None:
    pages(tmp_path / "in" / "A" / name, 3)
    pages(tmp_path / "in" / "A" / "one.png", 1)
    with pytest.raises(MediError, match=rf"{name}: holds 3 pictures"):
        packed(tmp_path / "in")
    found = packed(tmp_path / "in", on_error="skip")
    assert found.table["image"].tolist() == ["A/one.png"]
    assert "holds 3 pictures" in found.info["packing"]["skipped"][0]["reason"]


def test_a_smaller_copy_in_a_tiff_is_no_further_picture(tmp_path: Path) -> None:
    large, small = Image.new("RGB", (8, 8), (10, 90, 120)), Image.new("RGB", (4, 4), (10, 90, 120))
    small.encoderinfo = {"tiffinfo": {SUBFILE: 1}}
    large.save(tmp_path / "0.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "0.tif") as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]
    assert read_patch(tmp_path / "0.tif", "0.tif").shape == (8, 8, 3)


def test_gif_and_jpeg_2000_are_images_and_other_files_are_counted(tmp_path: Path) -> None:
    for name in ("0.gif", "1.jp2", "2.png"):
        pages(tmp_path / "in" / "A" / name, 1)
    for name in ("notes.xml", "b.xml", "c.svs", "d.heic"):
        (tmp_path / "in" / "A" / name).write_text("x")
    cohort = readers.read(tmp_path / "in", "folder")
    assert cohort.table["image"].tolist() == ["A/0.gif", "A/1.jp2", "A/2.png"]
    assert "passed over, not of a kind of image that is read here: .xml (2), .svs (1), .heic (1)" in cohort.notes
    assert cohort.pack(tmp_path / "packed", 8, workers=1).images[:].std(axis=0).max() < 2


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_bombs_among_loose_images_are_never_decoded(tmp_path: Path, side: int) -> None:
    """What transfer, adapt and the app read goes the same way."""
    pages(tmp_path / "0.png", 1)
    (tmp_path / "1.png").write_bytes(bomb(side))
    with pytest.raises(MediError, match=r"1.png: not readable as an image \(over 89478485 pixels"):
        read_any(tmp_path)


def bomb(side: int) -> bytes:
    """A PNG whose header speaks of many pixels and which has none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"")
    )


def test_patches_of_another_size_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    paths = [pages(tmp_path / "0.png", 1), tmp_path / "1.png"]
    paths[1].write_bytes(bomb(9_000))
    with pytest.raises(MediError, match=r"1.png: has another size than 0.png \(8 px\)"):
        read_patches(paths, ["0.png", "1.png"])
