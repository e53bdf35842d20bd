"""What the XML of an OME-TIFF says of its making, by the names that OpenSlide would give.

Source: the OME data model, 2016-06, https://docs.openmicroscopy.org/ome-model/6.3.1/ome-tiff/specification.html.
"""

from collections.abc import Mapping
from xml.etree import ElementTree

TO_MICROMETRES = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "pm": 1e-6}
DESCRIPTION = "tiff.ImageDescription"


def is_ome(properties: Mapping[str, object]) -> bool:
    """Whether the description of a TIFF is the XML of OME."""
    return str(properties.get(DESCRIPTION) or "").rstrip().endswith("OME>")


def ome_properties(text: str) -> dict[str, str]:
    """Those that the XML states of its first image; none of XML that is broken.

    >>> ome_properties('<OME><Image><Pixels PhysicalSizeX="250" PhysicalSizeXUnit="nm"/></Image></OME>')
    {'openslide.vendor': 'ome-tiff', 'openslide.mpp-x': '0.25'}
    """
    try:
        root = ElementTree.fromstring(text.strip().encode())
    except ElementTree.ParseError:
        return {}
    maker, lens, pixels = (_first(root, name) for name in ("Microscope", "Objective", "Pixels"))
    found = {
        "openslide.vendor": maker.get("Manufacturer") or "ome-tiff",
        "openslide.mpp-x": _micrometres(pixels, "X"),
        "openslide.mpp-y": _micrometres(pixels, "Y"),
        "openslide.objective-power": lens.get("NominalMagnification", ""),
        "ome.Model": maker.get("Model", ""),
        "ome.SerialNumber": maker.get("SerialNumber", ""),
        "ome.AcquisitionDate": root.findtext(".//{*}AcquisitionDate", ""),
        "ome.Creator": root.get("Creator", ""),
    }
    return {name: value for name, value in found.items() if value}


def _first(root: ElementTree.Element, name: str) -> Mapping[str, str]:
    """The attributes of the first element of a name; none where there is no such element."""
    found = root.find(f".//{{*}}{name}")
    return {} if found is None else found.attrib


def _micrometres(pixels: Mapping[str, str], axis: str) -> str:
    """The size of a pixel; "" where it is not stated, or in units that are no length (pixel, reference frame)."""
    size, unit = pixels.get(f"PhysicalSize{axis}", ""), pixels.get(f"PhysicalSize{axis}Unit", "µm")
    try:
        return f"{float(size) * TO_MICROMETRES[unit]:.6g}"
    except (ValueError, KeyError):
        return ""
