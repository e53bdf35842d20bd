"""What a slide's header says of its making, as columns of metadata: many cohorts have no site column, and this knows
the scanner.

Privacy: label and overview pictures are never read, dates become years, serial numbers become codes.
"""

import re
from collections.abc import Mapping
from typing import Any

from medi.cohort.slides.ome import DESCRIPTION, is_ome, ome_properties
from medi.core.codes import code_of
from medi.core.errors import MediError
from medi.core.files import content_hash

COLUMNS = (
    *("vendor", "scanner_model", "scanner", "objective", "slide_mpp"),
    *("jpeg_quality", "icc_profile", "scan_year", "scanner_software"),
)
MAKERS = ("dicom.Manufacturer", "openslide.vendor")
MODELS = (
    *("dicom.ManufacturerModelName", "hamamatsu.Product", "leica.device-model", "ventana.ScannerModel"),
    *("philips.DICOM_MANUFACTURERS_MODEL_NAME", "aperio.ScannerType", "ome.Model", "tiff.Model"),
)
SERIALS = (
    *("dicom.DeviceSerialNumber", "aperio.ScanScope ID", "hamamatsu.NDP.S/N", "philips.DICOM_DEVICE_SERIAL_NUMBER"),
    *("ventana.UnitNumber", "ome.SerialNumber"),
)
DATES = (
    *("dicom.AcquisitionDateTime", "dicom.AcquisitionDate", "aperio.Date", "hamamatsu.Created", "leica.creation-date"),
    *("philips.DICOM_ACQUISITION_DATETIME", "ome.AcquisitionDate", "tiff.DateTime"),
)
SOFTWARE = ("dicom.SoftwareVersions", "philips.DICOM_SOFTWARE_VERSIONS", "ome.Creator", "tiff.Software")
POSSIBLE = (0.02, 20.0)  # micrometres per pixel; other programs write 72 dots per inch into headers
SQUARE = 0.02  # by which width and height of a pixel may differ
DIGITS = 8  # of the code of a serial number, and of the name of a colour profile


def properties_of(slide: Any) -> dict[str, str]:
    """What an open slide says of itself, by the names of OpenSlide, whoever opened it."""
    known = {
        name.replace("tiffslide.", "openslide."): str(value)
        for name, value in slide.properties.items()
        if value is not None
    }
    return known | (ome_properties(known[DESCRIPTION]) if is_ome(known) else {})


def header_of(slide: Any) -> dict[str, str]:
    """The columns `COLUMNS` of an open slide, "" where its header does not say; `scanner` is its serial number."""
    known = properties_of(slide)
    description = known.get(DESCRIPTION, "")
    found = {
        "vendor": _first(known, MAKERS),
        "scanner_model": _first(known, MODELS),
        "scanner": _first(known, SERIALS),
        "objective": known.get("openslide.objective-power", ""),
        "slide_mpp": known.get("openslide.mpp-x", ""),
        "jpeg_quality": _quality(description),
        "icc_profile": _profile(slide),
        "scan_year": year_of(_first(known, DATES)),
        "scanner_software": _first(known, SOFTWARE) or _library(description),
    }
    return {name: " ".join(found[name].split()) for name in COLUMNS}


def without_serial(header: Mapping[str, str], key: bytes) -> dict[str, str]:
    """The header with a code in place of the serial number; none where a slide could not be read."""
    return {name: code_of(key, name, text, DIGITS) if name == "scanner" else text for name, text in header.items()}


def mpp_of(slide: Any, path: object, stated: float | None) -> float:
    """Micrometres per pixel of the finest level: as stated, else as in the header. MediError where neither says it."""
    if stated is not None:
        return stated
    known = properties_of(slide)
    wide, high = (_number(known.get(f"openslide.mpp-{axis}", "")) for axis in "xy")
    if wide is None or not POSSIBLE[0] < wide < POSSIBLE[1]:
        said = "no micrometres per pixel" if wide is None else f"{wide:g} micrometres per pixel, which no scanner makes"
        raise MediError(f"{path}: its header has {said}; state them in a column `mpp` of the table")
    if high is not None and abs(high / wide - 1) > SQUARE:
        raise MediError(
            f"{path}: its pixels are {wide:g} x {high:g} micrometres, not square; "
            "state one size in a column `mpp` of the table, if the header is wrong"
        )
    return wide


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def year_of(date: str) -> str:
    """The year in a date as scanners write it.

    >>> year_of("12/29/09"), year_of("2010:03:31 13:02:11"), year_of("20180212093000"), year_of("")
    ('2009', '2010', '2018', '')
    """
    if found := re.search(r"(?:19|20)\d\d", date):
        return found[0]
    found = re.match(r"\d\d?/\d\d?/(\d\d)$", date.strip())
    return f"20{found[1]}" if found else ""


def _first(known: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((known[name].strip() for name in names if known.get(name, "").strip()), "")


def _quality(description: str) -> str:
    """Aperio's "JPEG/RGB Q=70"."""
    found = re.search(r"\bQ=(\d+)", description)
    return found[1] if found else ""


def _library(description: str) -> str:
    """Aperio's first line, "Aperio Image Library v11.2.1", without the size that may follow."""
    found = re.match(r"Aperio[^\r\n|]*?v[\d.]+", description)
    return found[0] if found else ""


def _profile(slide: Any) -> str:
    """A short name for the colour profile: slides of one profile have one name."""
    profile = getattr(slide, "color_profile", None)
    return content_hash("icc", profile.tobytes())[:DIGITS] if profile is not None else ""
