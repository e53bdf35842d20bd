"""Every reader on everything that goes wrong in the field, through the CLI: one clear line or a listed skip."""

import io
import json
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import command_line
from command_line import Medi
from medi.cohort.table import Cohort

SLIDES = [f"TCGA-{code}-{patient}-01Z-00-DX1" for code in ("18", "NA") for patient in ("5592", "5593")]
CLASSES = ("LUAD", "LUSC")


def picture(shade: int = 120) -> bytes:
    handle = io.BytesIO()
    Image.new("RGB", (12, 12), (shade, 90, 120)).save(handle, "PNG")
    return handle.getvalue()


def bomb(side: int = 60_000) -> bytes:
    """A PNG of a few bytes that claims side x side pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@dataclass(frozen=True)
class Patch:
    """One patch of a source; content None: listed, but not there."""

    label: str
    slide: str
    site: str
    name: str
    content: bytes | None

    @property
    def patient(self) -> str:
        return self.slide[:12]


def patches(each: int = 2) -> list[Patch]:
    drawn = [(slide, k) for slide in SLIDES for k in range(each)]
    return [
        Patch(CLASSES[i // each % 2], slide, "ab"[i % 2], f"0_{k}_521", picture(20 * i))
        for i, (slide, k) in enumerate(drawn)
    ]


# --- one layout per reader: write the patches, return the source and its options --------------------------------------


def _put(path: Path, content: bytes | None) -> None:
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _csv(path: Path, header: str, rows: list[str]) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def table(root: Path, given: list[Patch]) -> list[object]:
    for p in given:
        _put(root / p.slide / f"{p.name}.png", p.content)
    rows = [f"{p.slide}/{p.name}.png,{p.label},{p.patient},{p.slide},{p.site}" for p in given]
    return [_csv(root / "metadata.csv", "image,label,patient,slide,site", rows), "--attributes", "site"]


def pathorob(root: Path, given: list[Patch]) -> list[object]:
    for p in given:
        _put(root / p.slide / f"{p.name}.png", p.content)
    rows = [f"ID,{p.slide},{p.name},{p.label},{p.site}" for p in given]
    path = _csv(root / "pathorob.csv", "subset,slide_id,patch_id,biological_class,medical_center", rows)
    return [path, "--image", "{slide_id}/{patch_id}.png", "--attributes", "medical_center"]


def wilds(root: Path, given: list[Patch]) -> list[object]:
    rows = []
    for p in given:
        patient, x = str(100 + SLIDES.index(p.slide)), p.name.split("_")[1]
        folder = f"patient_{patient}_node_0"
        _put(root / "patches" / folder / f"patch_{folder}_x_{x}_y_0.png", p.content)
        rows.append(f"{patient},0,{x},0,{CLASSES.index(p.label)},{SLIDES.index(p.slide)},{p.site},0")
    path = _csv(root / "metadata.csv", "patient,node,x_coord,y_coord,tumor,slide,center,split", rows)
    return [path, "--attributes", "center"]


def folder(root: Path, given: list[Patch]) -> list[object]:
    for p in given:
        _put(root / p.label / f"{p.slide}_{p.site}_{p.name}.png", p.content)
    return [root, "--kind", "folder", "--pattern", r"(?P<label>[^/]+)/(?P<slide>TCGA[^_]+)_(?P<site>[^_]*)_"]


def tcga_ut(root: Path, given: list[Patch]) -> list[object]:
    for p in given:
        _put(root / p.label / p.slide / f"{p.name}.png", p.content)
    return [root, "--attributes", "site_code"]


def webdataset(root: Path, given: list[Patch]) -> list[object]:
    root.mkdir(exist_ok=True)
    with tarfile.open(root / "shard.tar", "w") as archive:
        for p in given:
            document = json.dumps({"label": p.label, "site": p.site}).encode()
            members = [(".json", document)] + ([] if p.content is None else [(".jpg", p.content)])
            for suffix, content in members:
                info = tarfile.TarInfo(f"{p.slide}/{p.name}{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return [root / "shard.tar", "--attributes", "site_code"]


LAYOUTS = (table, pathorob, wilds, folder, tcga_ut, webdataset)
LISTING = (table, pathorob, wilds, webdataset)  # name images that need not be there
TABLES = (table, pathorob, wilds)
Layout = Callable[[Path, list[Patch]], list[object]]
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def refused(result: tuple[int, str], *words: str) -> None:
    """As for every verb; and no half-written cohort."""
    command_line.refused(result, *words)
    assert not Path("out/cohort.json").exists()


def fine(result: tuple[int, str]) -> str:
    return " ".join(command_line.fine(result).split())


def pack(medi: Medi, command: list[object], *more: object) -> tuple[int, str]:
    return medi("pack", *command, "--size", "8", "--workers", "1", "--out", "out", *more)


@pytest.mark.slow
@each_layout
def test_sound_source(medi: Medi, source: Path, layout: Layout) -> None:
    """The ground that the faults stand on: every layout is read and packed."""
    fine(pack(medi, layout(source, patches())))
    found = Cohort.load(Path("out"))
    assert len(found) == len(found.images) == 8
    assert found.schema.classes.levels == (("normal", "tumor") if layout is wilds else CLASSES)
    assert found.table["slide"].nunique() == 4
    assert found.table["patient"].nunique() == 4


@pytest.mark.slow
@pytest.mark.parametrize("layout", LISTING)
def test_missing_image(medi: Medi, source: Path, layout: Layout) -> None:
    given = patches()
    given[3] = replace(given[3], content=None)
    command = layout(source, given)
    where = "line 5" if layout in TABLES else f"{given[3].slide}/{given[3].name}"
    refused(medi("audit", *command, "--out", "out"), where)
    fine(medi("audit", *command, "--on-error", "skip", "--out", "out"))
    assert len(Cohort.load(Path("out"))) == 7


@pytest.mark.slow
@each_layout
@pytest.mark.parametrize("content", [b"no image", picture()[:40], bomb()], ids=["garbage", "cut off", "bomb"])
def test_unreadable_image(medi: Medi, source: Path, layout: Layout, content: bytes) -> None:
    given = patches()
    given[2] = replace(given[2], content=content)
    command = layout(source, given)
    name = "x_0_y_0" if layout is wilds else given[2].name
    refused(pack(medi, command), name)
    assert name in fine(pack(medi, command, "--on-error", "skip"))
    assert len(Cohort.load(Path("out")).images) == 7


@pytest.mark.parametrize("layout", LISTING)
def test_duplicate(medi: Medi, source: Path, layout: Layout) -> None:
    given = patches()
    command = layout(source, [*given, given[1]])
    refused(medi("audit", *command, "--out", "out"), "line 10" if layout in TABLES else given[1].name)


@pytest.mark.slow
@each_layout
def test_patient_in_two_classes(medi: Medi, source: Path, layout: Layout) -> None:
    given = patches()
    given[1] = replace(given[1], label=CLASSES[1])
    assert "more than one class" in fine(medi("audit", *layout(source, given), "--out", "out"))


@pytest.mark.slow
@each_layout
def test_attribute_with_one_level(medi: Medi, source: Path, layout: Layout) -> None:
    given = [replace(p, site="a") for p in patches() if p.slide in SLIDES[:2]]
    assert "has one level" in fine(medi("audit", *layout(source, given), "--out", "out"))


@pytest.mark.parametrize("layout", [*TABLES, folder])
def test_attribute_without_a_value(medi: Medi, source: Path, layout: Layout) -> None:
    command = layout(source, [replace(p, site="") for p in patches()])
    refused(medi("audit", *command, "--out", "out"), str(command[-1]) if layout in TABLES else "site", "every row")


@pytest.mark.slow
@pytest.mark.parametrize("layout", [table, pathorob])
def test_a_million_levels(medi: Medi, source: Path, layout: Layout) -> None:
    """Also where the images are lacking: one line, at once."""
    given = [Patch(CLASSES[i % 2], f"S{i}", f"site {i}", "p", None) for i in range(10_001)]
    path, _, *_, name = layout(source, given)
    refused(medi("audit", path, "--image", "", "--slide", "slide", "--attributes", name, "--out", "out")
            if layout is table else medi("audit", path, "--attributes", name, "--out", "out"), "10,001")  # fmt: skip
    refused(medi("audit", *layout(source, given), "--out", "out"), "line 2", "(and 10,000 more)")


@pytest.mark.parametrize("layout", TABLES)
def test_table_that_is_not_utf8(medi: Medi, source: Path, layout: Layout) -> None:
    command = layout(source, patches())
    path = Path(str(command[0]))
    path.write_bytes(path.read_bytes().replace(b",a", b",\xe9", 1))
    refused(medi("audit", *command, "--out", "out"), path.name, "UTF-8")


@pytest.mark.parametrize("layout", [folder, tcga_ut])
def test_file_name_that_is_not_utf8(medi: Medi, source: Path, layout: Layout) -> None:
    command = layout(source, patches())
    path = sorted(source.rglob("*.png"))[0]
    os.rename(path, os.fsencode(path.parent) + b"/\xe9" + os.fsencode(path.name))
    refused(medi("audit", *command, "--out", "out"), "UTF-8")


def test_tar_with_json_that_is_not_utf8(medi: Medi, source: Path) -> None:
    command = webdataset(source, patches())
    path = source / "shard.tar"
    path.write_bytes(path.read_bytes().replace(b"LUAD", b"LU\xe9D", 1))
    refused(medi("audit", *command, "--out", "out"), "shard.tar", "utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("layout", [folder, tcga_ut])
def test_links_to_folders_are_named(medi: Medi, source: Path, layout: Layout) -> None:
    """A link may lead anywhere, also back: it is not followed, and the user is told."""
    command = layout(source, patches())
    (source / "LUSC" / "again").symlink_to(source, target_is_directory=True)
    assert "LUSC/again" in fine(medi("audit", *command, "--out", "out"))
    assert len(Cohort.load(Path("out"))) == 8


@pytest.mark.slow
@pytest.mark.parametrize("layout", [table, folder, tcga_ut])
def test_broken_link(medi: Medi, source: Path, layout: Layout) -> None:
    command = layout(source, patches())
    path = sorted(source.rglob("*.png"))[0]
    path.unlink()
    path.symlink_to(source / "nowhere.png")
    refused(medi("audit", *command, "--out", "out"), path.name)
    fine(medi("audit", *command, "--on-error", "skip", "--out", "out"))
    assert len(Cohort.load(Path("out"))) == 7


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../evil", "/evil"])
def test_tar_member_outside(medi: Medi, source: Path, name: str) -> None:
    command = webdataset(source, patches())
    with tarfile.open(source / "shard.tar", "a") as archive:
        for suffix, content in ((".jpg", picture()), (".json", b'{"label": "LUAD"}')):
            info = tarfile.TarInfo(name + suffix)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    refused(medi("audit", *command, "--out", "out"), "evil")
    fine(pack(medi, command, "--on-error", "skip"))
    assert len(Cohort.load(Path("out")).images) == 8
    assert not list(source.parent.rglob("evil*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_tar_link(medi: Medi, source: Path, kind: bytes) -> None:
    command = webdataset(source, patches())
    link = tarfile.TarInfo(f"{SLIDES[0]}/9_9_521.jpg")
    link.type, link.linkname = kind, f"{SLIDES[0]}/0_0_521.jpg"
    with tarfile.open(source / "shard.tar", "a") as archive:
        archive.addfile(link)
    refused(medi("audit", *command, "--out", "out"), "9_9_521.jpg")
    fine(medi("audit", *command, "--on-error", "skip", "--out", "out"))
    assert len(Cohort.load(Path("out"))) == 8


@pytest.mark.slow
def test_a_third_of_a_million_levels_are_quick_to_refuse(medi: Medi, source: Path) -> None:
    frame = pd.DataFrame({"label": "a", "patient": [f"P{i}" for i in range(300_000)]})
    frame.assign(site=frame["patient"].str.replace("P", "S")).to_parquet(source / "m.parquet")
    refused(medi("audit", source / "m.parquet", "--id", "patient", "--attributes", "site", "--out", "out"), "300,000")
