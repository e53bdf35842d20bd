"""What a slide's header says of its making, as columns of metadata: many cohorts have no site column, and this knows
the scanner.

Privacy: label and overview pictures are never read, dates become years, serial numbers become hashes.
"""

import re
from collections.abc import Mapping
from typing import Any

from medi.core.errors import MediError
from medi.core.files import content_hash

COLUMNS = (
    *("vendor", "scanner_model", "scanner", "objective", "slide_mpp"),
    *("jpeg_quality", "icc_profile", "scan_year", "scanner_software"),
)
MODELS = (
    *("dicom.ManufacturerModelName", "hamamatsu.Product", "leica.device-model", "ventana.ScannerModel"),
    *("philips.DICOM_MANUFACTURERS_MODEL_NAME", "tiff.Model"),
)
SERIALS = (
    *("dicom.DeviceSerialNumber", "aperio.ScanScope ID", "hamamatsu.NDP.S/N", "philips.DICOM_DEVICE_SERIAL_NUMBER"),
    *("ventana.UnitNumber",),
)
DATES = (
    *("dicom.AcquisitionDateTime", "dicom.AcquisitionDate", "aperio.Date", "hamamatsu.Created", "leica.creation-date"),
    *("philips.DICOM_ACQUISITION_DATETIME", "tiff.DateTime"),
)
SOFTWARE = ("dicom.SoftwareVersions", "philips.DICOM_SOFTWARE_VERSIONS", "tiff.Software")
POSSIBLE = (0.02, 20.0)  # micrometres per pixel; other programs write 72 dots per inch into headers
HASHED = 8  # hexadecimal digits of a serial number's hash


def header_of(slide: Any, keep_ids: bool = False) -> dict[str, str]:
    """The columns `COLUMNS` of an open slide, "" where its header does not say.

    keep_ids: serial numbers as they are.
    """
    known: Mapping[str, str] = slide.properties
    description = known.get("tiff.ImageDescription", "")
    serial = _first(known, SERIALS)
    found = {
        "vendor": known.get("openslide.vendor", ""),
        "scanner_model": _first(known, MODELS),
        "scanner": serial if keep_ids or not serial else content_hash("scanner", serial)[:HASHED],
        "objective": known.get("openslide.objective-power", ""),
        "slide_mpp": known.get("openslide.mpp-x", ""),
        "jpeg_quality": _quality(description),
        "icc_profile": _profile(slide),
        "scan_year": year_of(_first(known, DATES)),
        "scanner_software": _first(known, SOFTWARE) or _library(description),
    }
    return {name: " ".join(found[name].split()) for name in COLUMNS}


def mpp_of(slide: Any, path: object, stated: float | None) -> float:
    """Micrometres per pixel of the finest level: as stated, else as in the header. MediError where neither says it."""
    if stated is not None:
        return stated
    text = slide.properties.get("openslide.mpp-x", "")
    if not text or not POSSIBLE[0] < float(text) < POSSIBLE[1]:
        said = f"{float(text):g} micrometres per pixel, which no scanner makes" if text else "no micrometres per pixel"
        raise MediError(f"{path}: its header has {said}; state them in a column `mpp` of the table")
    return float(text)


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
    return content_hash("icc", profile.tobytes())[:HASHED] if profile is not None else ""
