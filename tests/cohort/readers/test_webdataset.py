"""WebDataset tars: hub layout, broken shards, hostile members (P11)."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medi.cohort import readers
from medi.cohort.readers.webdataset import is_safe
from medi.core.errors import MediError

KEYS = ["TCGA-FS-A1Z7-06Z-00-DX7/0_8_521", "TCGA-N8-A4PN-01Z-00-DX2/2_3_254"]
LABELS = ["Skin_Cutaneous_Melanoma", "Uterine_Carcinosarcoma"]


def jpeg(shade: int = 100) -> bytes:
    handle = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, dtype=np.uint8)).save(handle, "JPEG")
    return handle.getvalue()


def shard(path: Path, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    """A tar of (name, content) and of ready members such as links."""
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            archive.addfile(info, io.BytesIO(member[1]))
    return path


def sample(key: str, label: str) -> list[tuple[str, bytes]]:
    return [(f"{key}.jpg", jpeg()), (f"{key}.json", json.dumps({"label": label}).encode())]


def hub(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    shard(folder / "dataset_internal_train_part000.tar", *sample(KEYS[0], LABELS[0]))
    shard(folder / "dataset_internal_test_part000.tar", *sample(KEYS[1], LABELS[1]))
    return folder


def test_hub_layout(tmp_path: Path) -> None:
    cohort = readers.read(hub(tmp_path / "hub"))
    table = cohort.table.sort_values("class")
    assert table["class"].tolist() == LABELS
    assert table["sample_id"].tolist() == KEYS
    assert table["image"].tolist()[0] == f"dataset_internal_train_part000.tar!{KEYS[0]}.jpg"
    assert table["slide"].tolist() == [key.split("/")[0] for key in KEYS]
    assert table["scan_mpp"].tolist() == ["0.2457", "0.5039"]
    assert table["mpp"].eq(0.5).all()
    assert table["site_code"].tolist() == ["FS", "N8"]


def test_one_tar_and_other_fields(tmp_path: Path) -> None:
    fields = json.dumps({"diagnosis": "a", "site": "NA", "slide": "S1", "patient": "P1", "list": [1]}).encode()
    path = shard(tmp_path / "x.tar", ("one.jpg", jpeg()), ("one.json", fields))
    cohort = readers.read(path, label="diagnosis", attributes=["site"], mpp=0.5)
    assert cohort.table[["class", "site", "slide", "patient"]].values.tolist() == [["a", "NA", "S1", "P1"]]
    with pytest.raises(MediError, match="no sample has a JSON field 'label'; found diagnosis, site"):
        readers.read(path)


def test_internal_and_external_shards_hold_the_same_patches(tmp_path: Path) -> None:
    folder = hub(tmp_path / "hub")
    shard(folder / "dataset_external_train_part000.tar", *sample(KEYS[0], LABELS[0]))
    with pytest.raises(MediError, match=r"dataset_internal_train.*was there already \(dataset_external_train"):
        readers.read(folder, "webdataset")
    assert len(readers.read(folder, "webdataset", shards="dataset_internal_*.tar")) == 2


@pytest.mark.parametrize("name", ["/etc/x.jpg", "../x.jpg", "a/../../x.jpg", "C:\\x.jpg", "a/\udce9.jpg"])
def test_unsafe_names_are_refused_or_listed_p11(tmp_path: Path, name: str) -> None:
    assert not is_safe(name)
    path = shard(tmp_path / "x.tar", *sample("a/0", "L"), (name, jpeg()))
    with pytest.raises(MediError, match=r"absolute or '..' paths are refused"):
        readers.read(path, "webdataset")
    cohort = readers.read(path, "webdataset", on_error="skip")
    assert cohort.table["sample_id"].tolist() == ["a/0"]
    assert any(name in note for note in cohort.info["notes"])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused_p11(tmp_path: Path, kind: bytes) -> None:
    link = tarfile.TarInfo("b/0.jpg")
    link.type, link.linkname = kind, "/etc/passwd"
    path = shard(tmp_path / "x.tar", *sample("a/0", "L"), link)
    with pytest.raises(MediError, match=r"b/0.jpg: links, devices"):
        readers.read(path, "webdataset")
    assert len(readers.read(path, "webdataset", on_error="skip")) == 1


def test_nothing_is_written_beside_the_tar_p11(tmp_path: Path) -> None:
    folder = hub(tmp_path / "hub")
    before = sorted(tmp_path.rglob("*"))
    readers.read(folder, "webdataset")
    assert sorted(tmp_path.rglob("*")) == before


def test_broken_shards_are_named(tmp_path: Path) -> None:
    whole = shard(tmp_path / "x.tar", *sample("a/0", "L"), *sample("a/1", "L")).read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[: len(whole) // 2 - 700])
    with pytest.raises(MediError, match=r"x.tar"):
        readers.read(tmp_path / "x.tar", "webdataset")
    (tmp_path / "x.tar").write_bytes(b"not a tar at all" * 100)
    with pytest.raises(MediError, match="not a whole, uncompressed tar"):
        readers.read(tmp_path / "x.tar", "webdataset")


def test_incomplete_samples(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", *sample("a/0", "L"), ("a/1.jpg", jpeg()))
    with pytest.raises(MediError, match=r"a/1.jpg: an image without its .json"):
        readers.read(path, "webdataset")
    assert len(readers.read(path, "webdataset", on_error="skip")) == 1
    with pytest.raises(MediError, match="has two images"):
        readers.read(shard(path, *sample("a/0", "L"), ("a/0.png", b"x")), "webdataset")
    with pytest.raises(MediError, match="not JSON"):
        readers.read(shard(path, ("a/0.jpg", jpeg()), ("a/0.json", b"{label")), "webdataset")
    with pytest.raises(MediError, match="holds list"):
        readers.read(shard(path, ("a/0.jpg", jpeg()), ("a/0.json", b"[1]")), "webdataset")
    with pytest.raises(MediError, match="no tars named"):
        readers.read(tmp_path, "webdataset", shards="*.tgz")


def members(path: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as archive:
        return archive.getmembers()


@pytest.mark.parametrize("place", [0, 124, 150, 257], ids=["name", "size", "checksum", "magic"])
def test_one_wrong_byte_in_a_header_loses_no_row_in_silence_p12(tmp_path: Path, place: int) -> None:
    path = shard(tmp_path / "x.tar", *(part for i in range(4) for part in sample(f"a/{i}", "L")))
    header = members(path)[4].offset
    content = bytearray(path.read_bytes())
    content[header + place] ^= 1
    path.write_bytes(content)
    with pytest.raises(MediError, match=rf"x.tar: the header of a member at byte {header:,}, after 'a/1.json'"):
        readers.read(path, "webdataset")


def test_a_tar_that_is_cut_between_members_is_refused_p12(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", *sample("a/0", "L"), *sample("a/1", "L"))
    whole, edge = path.read_bytes(), members(path)[2].offset
    path.write_bytes(whole[:edge])
    with pytest.raises(MediError, match=rf"x.tar: cut off at byte {edge:,}, after 'a/0.json'"):
        readers.read(path, "webdataset")
    path.write_bytes(whole[:edge] + bytes(tarfile.BLOCKSIZE) + whole[edge + tarfile.BLOCKSIZE :])
    with pytest.raises(MediError, match=rf"more follows behind the end mark at byte {edge:,}"):
        readers.read(path, "webdataset")
    path.write_bytes(whole + whole)
    with pytest.raises(MediError, match="two archives joined"):
        readers.read(path, "webdataset")


def test_packing_names_a_tar_that_was_damaged_since_it_was_read_p12(tmp_path: Path) -> None:
    path = shard(tmp_path / "x.tar", *sample("a/0", "L"), *sample("a/1", "L"))
    cohort = readers.read(path, "webdataset")
    path.write_bytes(path.read_bytes()[: members(path)[2].offset])
    with pytest.raises(MediError, match=r"x.tar: cut off at byte"):
        cohort.pack(tmp_path / "packed", 8, workers=1)
