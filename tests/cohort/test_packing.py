"""Packing: every pixel format, every kind of broken image, kills and resumes (P2, P3, P11, P12)."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from medi.cohort import packing, pixels
from medi.cohort.packing import pack
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import read_json, write_json
from medi.core.seeds import generator


def picture(key: str, width: int = 16, height: int = 16) -> Image.Image:
    return Image.fromarray(generator(key).integers(0, 256, (height, width, 3), dtype=np.uint8))


def cohort(images: list[str], **columns: object) -> Cohort:
    table = pd.DataFrame({"sample_id": [f"s{i}" for i in range(len(images))], "image": images})
    table = table.assign(**{"class": "a", "patient": table["sample_id"], "slide": table["sample_id"]}, **columns)
    return Cohort(table, Schema.infer(table, []))


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Cohort]:
    """source(n): n images of 16 px below tmp_path/images."""
    (tmp_path / "images").mkdir()

    def _make(count: int) -> Cohort:
        names = [f"{i}.png" for i in range(count)]
        for name in names:
            picture(name).save(tmp_path / "images" / name)
        return cohort(names)

    return _make


def pack_one(folder: Path, name: str, size: int = 8, **options: object) -> np.ndarray:
    """The one packed patch of one image file."""
    packed = pack(cohort([name]), folder, folder / f"packed_{name}", size, workers=1, **options)
    return packed.images[:][0]


def lanczos(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def test_packed_pixels_are_pillows_and_stay_in_order_p2(tmp_path: Path, source: Callable[..., Cohort]) -> None:
    packed = pack(source(5), tmp_path / "images", tmp_path / "out", 8, workers=1)
    expected = np.stack([lanczos(picture(f"{i}.png"), 8) for i in range(5)])
    np.testing.assert_array_equal(packed.images[:], expected)
    np.testing.assert_array_equal(packed.images[:], pixels.resize(np.stack([picture(f"{i}.png") for i in range(5)]), 8))
    assert packed.table["sample_id"].tolist() == [f"s{i}" for i in range(5)]
    assert not (tmp_path / "out" / "unfinished").exists()
    assert packed.info["packing"]["skipped"] == []


@pytest.mark.slow
def test_any_number_of_processes_packs_the_same_p3(tmp_path: Path, source: Callable[..., Cohort]) -> None:
    many = source(150)
    calls: list[tuple[int, int]] = []
    one = pack(many, tmp_path / "images", tmp_path / "one", 8, workers=1)
    two = pack(many, tmp_path / "images", tmp_path / "two", 8, workers=2, progress=lambda *c: calls.append(c))
    assert one.digest() == two.digest()
    assert calls[-1] == (150, 150)
    assert len(calls) == 3


def test_same_size_keeps_every_pixel(tmp_path: Path, source: Callable[..., Cohort]) -> None:
    packed = pack(source(1), tmp_path / "images", tmp_path / "out", 16, workers=1)
    np.testing.assert_array_equal(packed.images[:][0], np.asarray(picture("0.png")))


def test_crop_is_the_centre_untouched(tmp_path: Path) -> None:
    picture("x", 20, 17).save(tmp_path / "x.png")
    np.testing.assert_array_equal(
        pack_one(tmp_path, "x.png", mode="crop"), np.asarray(picture("x", 20, 17))[4:12, 6:14]
    )


def test_crop_and_tile_resample_to_mpp(tmp_path: Path) -> None:
    picture("x", 40, 20).save(tmp_path / "x.png")
    one = cohort(["x.png"], mpp=0.25)
    packed = pack(one, tmp_path, tmp_path / "crop", 8, mode="crop", mpp=0.5, workers=1)
    centre = picture("x", 40, 20).crop((12, 2, 28, 18))
    assert np.abs(packed.images[:][0][2:-2, 2:-2].astype(int) - lanczos(centre, 8)[2:-2, 2:-2]).max() <= 1
    assert packed.table["mpp"].tolist() == [0.5]
    tiles = pack(one, tmp_path, tmp_path / "tile", 4, mode="tile", mpp=0.5, workers=1)
    assert len(tiles) == 5 * 2
    assert tiles.table["sample_id"].tolist() == [f"s0#{i}" for i in range(10)]
    assert set(tiles.table["patient"]) == {"s0"}, "P5: tiles stay with their patient"


def test_tiles_cover_the_image(tmp_path: Path) -> None:
    image = np.asarray(picture("x", 24, 18))
    Image.fromarray(image).save(tmp_path / "x.png")
    Image.fromarray(image[:7, :7]).save(tmp_path / "small.png")
    both = cohort(["x.png", "small.png"])
    with pytest.raises(MediError, match=r"small.png: 7 x 7 pixels are too few: a patch needs 8"):
        pack(both, tmp_path, tmp_path / "out", 8, mode="tile", workers=1)
    packed = pack(both, tmp_path, tmp_path / "out", 8, mode="tile", workers=1, on_error="skip")
    grid = packed.images[:].reshape(2, 3, 8, 8, 3).transpose(0, 2, 1, 3, 4).reshape(16, 24, 3)
    np.testing.assert_array_equal(grid, image[:16])
    assert [bad["image"] for bad in packed.info["packing"]["skipped"]] == ["small.png"]


def test_mpp_follows_a_resize(tmp_path: Path, source: Callable[..., Cohort]) -> None:
    two = source(2).with_columns(mpp=[0.25, np.nan])
    table = pack(two, tmp_path / "images", tmp_path / "out", 4, workers=1).table
    np.testing.assert_allclose(table["mpp"], [1.0, np.nan])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "at least one pixel"),
        ({"size": 8, "mode": "resize", "mpp": 0.5}, "goes with crop or tile"),
        ({"size": 8, "mode": "crop", "mpp": -1.0}, "mpp is positive"),
        ({"size": 8, "mode": "crop", "mpp": 0.5}, r"0.png: its mpp is unknown \(row 0\)"),
        ({"size": 8, "workers": 0}, "at least one is needed"),
        ({"size": 17, "mode": "crop"}, "too few"),
    ],
)
def test_wrong_options(tmp_path: Path, source: Callable[..., Cohort], options: dict, message: str) -> None:
    with pytest.raises(MediError, match=message):
        pack(source(1), tmp_path / "images", tmp_path / "out", **({"workers": 1} | options))


def test_grey_palette_cmyk_and_transparent(tmp_path: Path) -> None:
    image = picture("x", 8, 8)
    image.convert("L").save(tmp_path / "grey.png")
    np.testing.assert_array_equal(pack_one(tmp_path, "grey.png"), np.asarray(image.convert("L").convert("RGB")))
    image.convert("1").save(tmp_path / "bits.png")
    assert set(np.unique(pack_one(tmp_path, "bits.png"))) <= {0, 255}
    quantised = image.quantize(16)
    quantised.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(pack_one(tmp_path, "palette.png"), np.asarray(quantised.convert("RGB")))
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(pack_one(tmp_path, "cmyk.jpg").astype(int) - [255, 0, 0]).max() <= 3, "red"


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    rgba.paste((0, 0, 200, 255), (0, 0, 4, 8))
    rgba.save(tmp_path / "rgba.png")
    packed = pack_one(tmp_path, "rgba.png")
    assert (packed[:, :4] == [0, 0, 200]).all()
    assert (packed[:, 4:] == 255).all(), "glass, not black"
    Image.new("LA", (8, 8), (10, 0)).save(tmp_path / "la.png")
    assert (pack_one(tmp_path, "la.png") == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    packed = pack_one(tmp_path, f"deep.{suffix}")
    np.testing.assert_allclose(packed[..., 0], deep / 257.0, atol=1.0)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_has_no_range_and_is_named(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (8, 8), 3).save(tmp_path / "x.tif")
    with pytest.raises(MediError, match=f"x.tif: mode {mode} has no stated range"):
        pack_one(tmp_path, "x.tif")


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_once(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{suffix}"
    picture("x", 24, 16).save(path, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(path))
    packed = pack(cohort([path.name]), tmp_path, tmp_path / "out", 8, mode="tile", workers=1)
    rows, columns = upright.height // 8, upright.width // 8
    grid = packed.images[:].reshape(rows, columns, 8, 8, 3).transpose(0, 2, 1, 3, 4)
    np.testing.assert_array_equal(grid.reshape(upright.height, upright.width, 3), np.asarray(upright))


def broken(folder: Path) -> dict[str, str]:
    """Unusable images and what is said of each."""
    whole = io.BytesIO()
    picture("x", 64, 64).save(whole, "JPEG")
    (folder / "truncated.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    picture("e").save(folder / "postscript.png", "EPS")
    picture("y", 16, 8).save(folder / "oblong.png")
    (folder / "folder.png").mkdir()
    return {
        "truncated.jpg": "truncated",
        "empty.png": "no image format",
        "text.png": "no image format",
        "postscript.png": "no image format",
        "oblong.png": "16 x 8 pixels are not square",
        "folder.png": "not readable",
        "gone.png": "no such image",
        "null\0.png": "null byte",
    }


@pytest.mark.slow
def test_broken_images_are_named_or_listed(tmp_path: Path, source: Callable[..., Cohort]) -> None:
    good = source(2).table["image"].tolist()
    reasons = broken(tmp_path / "images")
    for number, (name, reason) in enumerate(reasons.items()):
        with pytest.raises(MediError, match=reason) as caught:
            pack(cohort([good[0], name]), tmp_path / "images", tmp_path / f"o{number}", 8, workers=1)
        assert name in str(caught.value)
        assert not (tmp_path / f"o{number}" / "cohort.json").exists(), "P12: unfinished"
    mixed = cohort([good[0], *reasons, good[1]])
    packed = pack(mixed, tmp_path / "images", tmp_path / "out", 8, workers=1, on_error="skip")
    assert packed.table["image"].tolist() == good
    np.testing.assert_array_equal(packed.images[:], np.stack([lanczos(picture(name), 8) for name in good]))
    assert {bad["image"]: bad["reason"] for bad in packed.info["packing"]["skipped"]}.keys() == reasons.keys()
    pixels.verify(tmp_path / "out" / "pixels.npy")


def test_nothing_usable_is_an_error(tmp_path: Path, source: Callable[..., Cohort]) -> None:
    source(0)
    with pytest.raises(MediError, match=r"no image could be packed; the first: x.png: no such image"):
        pack(cohort(["x.png"]), tmp_path / "images", tmp_path / "out", 8, workers=1, on_error="skip")
    with pytest.raises(MediError, match="rows without an image"):
        pack(cohort([""]), tmp_path / "images", tmp_path / "out", 8, workers=1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_decompression_bomb_is_never_decoded(tmp_path: Path) -> None:
    """P11: 10,000 x 10,000 pixels in 12 KiB; nothing of it may be allocated."""
    Image.new("1", (10_000, 10_000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 50_000
    for mode in ("resize", "tile"):
        with pytest.raises(MediError, match=r"bomb.png: over 89478485 pixels, possibly a decompression bomb"):
            pack_one(tmp_path, "bomb.png", mode=mode)
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bigger.png")
    with pytest.raises(MediError, match="decompression bomb"):
        pack_one(tmp_path, "bigger.png")


def tar(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


def png(key: str) -> bytes:
    handle = io.BytesIO()
    picture(key).save(handle, "PNG")
    return handle.getvalue()


def test_tar_members_are_read_in_place_p11(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", **{"s/0.png": png("a"), "s/1.png": png("b")})
    names = ["a.tar!s/1.png", "a.tar!s/0.png"]
    packed = pack(cohort(names), tmp_path, tmp_path / "out", 16, workers=1)
    np.testing.assert_array_equal(packed.images[:], np.stack([np.asarray(picture(k)) for k in "ba"]))
    assert not (tmp_path / "s").exists()
    assert not (tmp_path / "link.png").exists()
    for name in ("a.tar!link.png", "a.tar!gone.png", "b.tar!s/0.png"):
        with pytest.raises(MediError, match="no such image"):
            pack(cohort([name]), tmp_path, tmp_path / "bad", 16, workers=1)


def test_a_tar_that_changed_is_read_anew(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", **{"0.png": png("a")})
    pack(cohort(["a.tar!0.png"]), tmp_path, tmp_path / "first", 16, workers=1)
    tar(tmp_path / "a.tar", **{"first.png": png("x"), "0.png": png("b")})
    packed = pack(cohort(["a.tar!0.png"]), tmp_path, tmp_path / "second", 16, workers=1)
    np.testing.assert_array_equal(packed.images[:][0], np.asarray(picture("b")))


class Killed(BaseException):
    """Stands for a kill: nothing in the code may catch it."""


def kill_after(images: int) -> Callable[[int, int], None]:
    def _progress(done: int, total: int) -> None:
        if done >= images:
            raise Killed

    return _progress


@pytest.fixture
def killed(tmp_path: Path, source: Callable[..., Cohort]) -> Cohort:
    """200 images, of which a killed packing finished the first two units."""
    many = source(200)
    with pytest.raises(Killed):
        pack(many, tmp_path / "images", tmp_path / "out", 8, workers=1, progress=kill_after(2 * packing.UNIT))
    assert not (tmp_path / "out" / "cohort.json").exists()
    return many


def resumed(killed: Cohort, folder: Path) -> tuple[Cohort, int]:
    """The cohort packed to its end, and the images that this took."""
    done: list[int] = []
    packed = pack(killed, folder / "images", folder / "out", 8, workers=1, progress=lambda n, _: done.append(n))
    whole = pack(killed, folder / "images", folder / "whole", 8, workers=1)
    assert packed.digest() == whole.digest(), "P4: an interrupted packing equals an uninterrupted one"
    return packed, len(done) * packing.UNIT


@pytest.mark.slow
def test_resume_does_only_the_rest_p12(tmp_path: Path, killed: Cohort) -> None:
    packed, work = resumed(killed, tmp_path)
    assert work == 2 * packing.UNIT
    calls: list[int] = []
    again = pack(killed, tmp_path / "images", tmp_path / "out", 8, workers=1, progress=lambda n, _: calls.append(n))
    assert again.digest() == packed.digest()
    assert calls == [], "finished: nothing is done again"


@pytest.mark.slow
def test_damaged_unit_and_torn_log_are_done_again_p12(tmp_path: Path, killed: Cohort) -> None:
    work = tmp_path / "out" / "unfinished"
    store = np.load(work / "pixels.npy", mmap_mode="r+")
    store[3] ^= 255
    store.flush()
    with (work / "done.jsonl").open("a") as log:
        log.write('{"unit": 2, "chec')
    _, done = resumed(killed, tmp_path)
    assert done == 3 * packing.UNIT


def test_a_kill_before_the_head_costs_nothing_p12(
    tmp_path: Path, source: Callable[..., Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Defect: all images were read again where the store had its name and the cohort had no head yet."""
    few, done = source(3), list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(Cohort, "save", lambda *_: kill_after(0)(0, 0))
        with pytest.raises(Killed):
            pack(few, tmp_path / "images", tmp_path / "out", 8, workers=1)
    packed = pack(few, tmp_path / "images", tmp_path / "out", 8, workers=1, progress=lambda n, _: done.append(n))
    assert done == []
    assert packed.digest() == pack(few, tmp_path / "images", tmp_path / "whole", 8, workers=1).digest()


@pytest.mark.slow
def test_another_recipe_starts_anew_or_is_refused(tmp_path: Path, killed: Cohort) -> None:
    packed = pack(killed, tmp_path / "images", tmp_path / "out", 4, workers=1)
    assert packed.images.size == 4
    with pytest.raises(MediError, match="holds another cohort, or one packed otherwise"):
        pack(killed, tmp_path / "images", tmp_path / "out", 8, workers=1)


@pytest.mark.slow
def test_skipped_images_do_not_pass_a_later_fail(tmp_path: Path, source: Callable[..., Cohort]) -> None:
    many = source(200)
    (tmp_path / "images" / "3.png").unlink()
    with pytest.raises(Killed):
        pack(many, tmp_path / "images", tmp_path / "out", 8, workers=1, on_error="skip", progress=kill_after(64))
    with pytest.raises(MediError, match=r"3.png: no such image"):
        pack(many, tmp_path / "images", tmp_path / "out", 8, workers=1)


def test_other_attributes_are_another_cohort(tmp_path: Path, source: Callable[..., Cohort]) -> None:
    one = source(2)
    pack(one, tmp_path / "images", tmp_path / "out", 8, workers=1)
    with pytest.raises(MediError, match="holds another cohort"):
        pack(one.with_columns(**{"class": ["a", ""]}), tmp_path / "images", tmp_path / "out", 8, workers=1)


def test_full_disk_is_one_clear_error_p12(
    tmp_path: Path, source: Callable[..., Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(packing.os, "posix_fallocate", full)
    with pytest.raises(MediError, match=r"No space left on device\); free space"):
        pack(source(1), tmp_path / "images", tmp_path / "out", 8, workers=1)


def test_checksums_find_the_damaged_rows(
    tmp_path: Path, source: Callable[..., Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "UNIT", 4)
    pack(source(10), tmp_path / "images", tmp_path / "out", 8, workers=1)
    path = tmp_path / "out" / "pixels.npy"
    pixels.verify(path)
    store = np.load(path, mmap_mode="r+")
    store[5, 0, 0, 0] ^= 1
    store.flush()
    with pytest.raises(MediError, match="rows 4 to 7 are damaged"):
        pixels.verify(path)
    assert len(Cohort.load(tmp_path / "out")) == 10, "the cheap check looks at the end only"
    store[9, 0, 0, 0] ^= 1
    store.flush()
    with pytest.raises(MediError, match="rows 8 to 9 are damaged"):
        Cohort.load(tmp_path / "out")


def test_checksums_that_are_lost_are_missed(tmp_path: Path, source: Callable[..., Cohort]) -> None:
    """Without them nothing would be checked any more; a cohort of version 0.1 may have none."""
    out = tmp_path / "out"
    pack(source(10), tmp_path / "images", out, 8, workers=1)
    (out / "pixels.sums.json").unlink()
    with pytest.raises(MediError, match=r"pixels\.sums\.json is missing; run the same `medi pack` command again"):
        Cohort.load(out)
    with pytest.raises(MediError, match=r"pixels\.sums\.json is missing"):
        pack(source(9), tmp_path / "images", out, 8, workers=1)
    again = pack(source(10), tmp_path / "images", out, 8, workers=1)
    assert len(again) == 10
    (out / "pixels.sums.json").unlink()
    write_json(out / "cohort.json", {key: v for key, v in read_json(out / "cohort.json").items() if key != "checksums"})
    assert len(Cohort.load(out)) == 10


def test_checksums_of_a_saved_selection(
    tmp_path: Path, source: Callable[..., Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "CHUNK_BYTES", 3 * 8 * 8 * 3)  # three patches a chunk
    packed = pack(source(10), tmp_path / "images", tmp_path / "out", 8, workers=1)
    packed.select(np.arange(8)).save(tmp_path / "some")
    store = np.load(tmp_path / "some" / "pixels.npy", mmap_mode="r+")
    store[2] ^= 1
    store.flush()
    with pytest.raises(MediError, match="rows 0 to 2 are damaged"):
        pixels.verify(tmp_path / "some" / "pixels.npy")
    Cohort.load(tmp_path / "some").save(tmp_path / "some")
    with pytest.raises(MediError, match="rows 0 to 2 are damaged"):
        pixels.verify(tmp_path / "some" / "pixels.npy")


def test_saving_over_itself_copies_nothing(tmp_path: Path, source: Callable[..., Cohort]) -> None:
    packed = pack(source(4), tmp_path / "images", tmp_path / "out", 8, workers=1)
    before = (tmp_path / "out" / "pixels.npy").stat().st_ino
    packed.with_columns(split="train").save(tmp_path / "out")
    assert (tmp_path / "out" / "pixels.npy").stat().st_ino == before
    assert Cohort.load(tmp_path / "out").table["split"].eq("train").all()
    half = packed.select(np.array([3, 1]))
    half.save(tmp_path / "out")
    np.testing.assert_array_equal(Cohort.load(tmp_path / "out").images[:], half.images[:])
    pixels.verify(tmp_path / "out" / "pixels.npy")


def test_all_pixels_saved_elsewhere_are_the_same_file(tmp_path: Path, source: Callable[..., Cohort]) -> None:
    """No byte is copied, checksums come along, and each folder lives on without the other."""
    packed = pack(source(4), tmp_path / "images", tmp_path / "out", 8, workers=1)
    images, sums = packed.images[:], read_json(tmp_path / "out" / "pixels.sums.json")
    packed.with_columns(split="train").save(tmp_path / "split")
    assert (tmp_path / "split" / "pixels.npy").samefile(tmp_path / "out" / "pixels.npy")
    assert read_json(tmp_path / "split" / "pixels.sums.json") == sums
    (tmp_path / "out" / "pixels.sums.json").unlink()  # as of version 0.1
    assert pixels.same_pixels(tmp_path / "out", tmp_path / "split")
    packed.select(np.array([2, 0])).save(tmp_path / "out")
    assert not pixels.same_pixels(tmp_path / "out", tmp_path / "split")
    np.testing.assert_array_equal(Cohort.load(tmp_path / "split").images[:], images)
    pixels.verify(tmp_path / "split" / "pixels.npy")
    assert not list(tmp_path.glob("*/.*.tmp"))


def test_pixels_are_copied_where_a_file_has_one_name_alone(
    tmp_path: Path, source: Callable[..., Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack(source(4), tmp_path / "images", tmp_path / "out", 8, workers=1)

    def refuse(*names: object) -> None:
        raise OSError("no second name here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    packed.save(tmp_path / "copy")
    assert not (tmp_path / "copy" / "pixels.npy").samefile(tmp_path / "out" / "pixels.npy")
    np.testing.assert_array_equal(Cohort.load(tmp_path / "copy").images[:], packed.images[:])
    assert pixels.same_pixels(tmp_path / "copy", tmp_path / "out")
    pixels.verify(tmp_path / "copy" / "pixels.npy")
