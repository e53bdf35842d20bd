"""Small slides of two levels, as scanners write them: tissue on the left, glass on the right."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile

WIDTH, HEIGHT = 192, 128
TILE = 64
APERIO = (
    "Aperio Image Library v11.2.1 \r\n192x128 (64x64) JPEG/RGB Q=70"
    "|AppMag = 20|MPP = 0.4990|ScanScope ID = SS1302|Date = 12/29/09"
)
OME = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
    'Creator="Scan 2.1"><Instrument ID="Instrument:0"><Microscope Manufacturer="Zeiss" Model="Axioscan 7" '
    'SerialNumber="4711"/><Objective ID="Objective:0" NominalMagnification="20"/></Instrument><Image ID="Image:0">'
    '<AcquisitionDate>2021-03-04T05:06:07</AcquisitionDate><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" '
    'SizeX="192" SizeY="128" SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="500" PhysicalSizeXUnit="nm" '
    'PhysicalSizeY="0.5"><Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels>'
    "</Image></OME>"
)
SERIES = "1.2.826.0.1.3680043.8.498.1"


def picture(seed: int = 0) -> np.ndarray:
    """[128, 192, 3]: 96 columns of tissue, 96 of glass."""
    found = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    found[:, : WIDTH // 2] = np.random.default_rng(seed).integers(90, 170, (HEIGHT, WIDTH // 2, 3))
    return found


def write(path: Path, pixels: np.ndarray | None = None, hole: bool = False, **tags: Any) -> np.ndarray:
    """A tiled TIFF of two levels; its finest one. hole: the fifth tile of that was never scanned."""
    pixels = picture() if pixels is None else pixels
    tags |= {"tile": (TILE, TILE), "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        if hole:
            file.write(_tiles(pixels), shape=pixels.shape, dtype=pixels.dtype, subfiletype=0, **tags)
        else:
            file.write(pixels, subfiletype=0, **tags)
        file.write(pixels[::2, ::2], subfiletype=1, **tags)
    return pixels


def _tiles(pixels: np.ndarray) -> Iterator[np.ndarray | None]:
    places = [(y, x) for y in range(0, HEIGHT, TILE) for x in range(0, WIDTH, TILE)]
    return (None if i == 4 else pixels[y : y + TILE, x : x + TILE] for i, (y, x) in enumerate(places))


def aperio(path: Path, serial: str = "SS1302", **tags: Any) -> np.ndarray:
    return write(path, description=APERIO.replace("SS1302", serial), **tags)


def generic(path: Path, **tags: Any) -> np.ndarray:
    """Half a micrometre per pixel."""
    known = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER", "datetime": "2015:02:03 00:00:00"}
    return write(path, **(known | {"software": "Scan 1.2"} | tags))


def ome(path: Path, pixels: np.ndarray | None = None, **tags: Any) -> np.ndarray:
    """An OME-TIFF: the second level is a sub-image of the first, the header is XML."""
    pixels = picture() if pixels is None else pixels
    known = {"tile": (TILE, TILE), "photometric": "rgb", "metadata": None} | tags
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, subifds=1, description=OME.encode(), **known)
        file.write(pixels[::2, ::2], subfiletype=1, **known)
    return pixels


def dicom(
    folder: Path, series: str = SERIES, names: tuple[str, str] = ("0.dcm", "1.dcm"), label: bool = False
) -> np.ndarray:
    """A folder with a file for each level of a series; its finest level. label: also one of the slide's label."""
    pixels = picture()
    folder.mkdir(exist_ok=True)
    for level, name in enumerate(names):
        _dicom_level(folder / name, pixels[:: 1 + level, :: 1 + level], f"{series}.{level}", series, 0.5 * (1 + level))
    if label:
        _dicom_level(folder / "label.dcm", pixels[:TILE, :TILE], f"{series}.8", series, 1.0, "LABEL")
    return pixels


def _dicom_level(path: Path, pixels: np.ndarray, instance: str, series: str, mpp: float, kind: str = "VOLUME") -> None:
    """A "VL Whole Slide Microscopy Image", tiled, without compression, with what OpenSlide asks for."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage

    height, width, _ = pixels.shape
    rows, columns = height // TILE, -(-width // TILE)
    whole = np.full((rows * TILE, columns * TILE, 3), 255, dtype=np.uint8)
    whole[:height, :width] = pixels
    frames = whole.reshape(rows, TILE, columns, TILE, 3).swapaxes(1, 2)
    head = Dataset()
    head.file_meta = FileMetaDataset()
    head.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    head.SOPClassUID = head.file_meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
    head.SOPInstanceUID = head.file_meta.MediaStorageSOPInstanceUID = instance
    head.StudyInstanceUID, head.SeriesInstanceUID, head.Modality = f"{series}.9", series, "SM"
    head.ImageType = ["ORIGINAL", "PRIMARY", kind, "NONE"]
    head.Manufacturer, head.ManufacturerModelName, head.DeviceSerialNumber = "Leica Biosystems", "GT450", "SS12345"
    head.SoftwareVersions, head.AcquisitionDateTime = "1.0.1", "20210304050607"
    head.PatientName, head.PatientID = "Doe^Jane", "MRN1"
    head.Rows = head.Columns = TILE
    head.TotalPixelMatrixColumns, head.TotalPixelMatrixRows, head.NumberOfFrames = width, height, rows * columns
    head.SamplesPerPixel, head.PhotometricInterpretation, head.PlanarConfiguration = 3, "RGB", 0
    head.BitsAllocated = head.BitsStored = 8
    head.HighBit, head.PixelRepresentation, head.DimensionOrganizationType = 7, 0, "TILED_FULL"
    measures, shared, lens = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, lens.ObjectiveLensPower = [mpp / 1000, mpp / 1000], "40"
    shared.PixelMeasuresSequence = [measures]
    head.SharedFunctionalGroupsSequence, head.OpticalPathSequence = [shared], [lens]
    head.PixelData = frames.tobytes()
    head.save_as(path, enforce_file_format=True)


def coordinates(folder: Path, corners: list[list[int]], **attributes: object) -> Path:
    """A folder of coordinates, as CLAM or TRIDENT write them, for the slides a and b; beside that of the slides."""
    places = folder.parent / "coords"
    places.mkdir(exist_ok=True)
    for name in ("a", "b"):
        with h5py.File(places / f"{name}.h5", "w") as file:
            file["coords"] = np.array(corners)
            file["coords"].attrs.update(attributes)
    return places


def outlines(folder: Path) -> Path:
    """The same of GeoJSON, as QuPath writes it: a square of 64 pixels with a hole of 32, classified as Tumour."""
    ring = [[0, 0], [64, 0], [64, 64], [0, 64], [0, 0]]
    hole = [[0, 0], [32, 0], [32, 32], [0, 32], [0, 0]]
    shape = {"type": "Polygon", "coordinates": [ring, hole]}
    feature = {"type": "Feature", "geometry": shape, "properties": {"classification": {"name": "Tumour"}}}
    places = folder.parent / "outlines"
    places.mkdir(exist_ok=True)
    for name in ("a", "b"):
        (places / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return places
