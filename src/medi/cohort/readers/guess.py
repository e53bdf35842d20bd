"""Which column plays which role, and which spellings probably mean "not known": guesses that a person can correct."""

import re
from collections.abc import Iterable, Sequence

NAMES = {  # role: usual names without case, blanks and marks, the likeliest first
    "image": (
        "image",
        "imagepath",
        "imgpath",
        "filepath",
        "path",
        "file",
        "filename",
        "imagefile",
        "imagename",
        "img",
        "patch",
        "patchpath",
        "patchfile",
        "tile",
        "tilepath",
        "bild",
        "datei",
    ),
    "label": (
        "class",
        "label",
        "diagnosis",
        "diagnose",
        "tumortype",
        "tumourtype",
        "cancertype",
        "biologicalclass",
        "classname",
        "classlabel",
        "subtype",
        "category",
        "target",
        "projectid",
        "type",
        "y",
    ),
    "patient": (
        "patient",
        "patientid",
        "casesubmitterid",
        "caseid",
        "case",
        "casenumber",
        "subject",
        "subjectid",
        "participant",
        "participantid",
        "donor",
        "person",
        "fall",
        "pid",
        "patientnumber",
        "patientname",
    ),
    "slide": (
        "slide",
        "slideid",
        "slidesubmitterid",
        "wsi",
        "wsiid",
        "slidename",
        "wsiname",
        "slidenumber",
        "wholeslide",
        "wholeslideimage",
        "slidefile",
        "scan",
        "scanid",
    ),
    "id": ("sampleid", "patchname", "patchid", "tileid"),
}
ENDINGS = {"patient": ("patientid", "caseid"), "slide": ("slideid", "wsiid"), "image": ("imagepath", "filename")}
MISSING = {
    *("nan", "n/a", "na", "n.a.", "#n/a", "-", "--", "'--", "?", ".", "none", "null", "nil", "nd", "k.a."),
    *("unknown", "unk", "missing", "unspecified", "not specified", "not available", "not reported", "not known"),
    "unbekannt",
}


def plain(name: str) -> str:
    """A column's name without case, blanks and marks: "Slide_ID" and "slide id" are one.

    >>> plain("Slide_ID")
    'slideid'
    """
    return re.sub(r"[\W_]+", "", name.casefold())


def column_of(role: str, columns: Sequence[str]) -> str:
    """The likeliest column of a role ("image", "label", "patient", "slide", "id"), "" where none looks like it.

    >>> column_of("patient", ["Filename", "Case", "Diagnose"])
    'Case'
    """
    by_name: dict[str, str] = {}
    for column in columns:
        by_name.setdefault(plain(column), column)
    exact = [by_name[name] for name in NAMES[role] if name in by_name]
    ending = [column for name, column in by_name.items() if name.endswith(ENDINGS.get(role, ()))]
    return next(iter([*exact, *ending]), "")


def likely_missing(values: Iterable[str]) -> list[str]:
    """The spellings among some values that probably mean "not known", sorted; a person decides.

    `NA` is among them, although it is also a site code of TCGA: nothing is ever left out by this guess alone.

    >>> likely_missing(["Rome", "n/a", "NaN", "Rome"])
    ['NaN', 'n/a']
    """
    return sorted({value for value in values if value.strip().casefold() in MISSING})
