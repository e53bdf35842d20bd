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
ATTRIBUTES = (  # usual names of what differs between patches beside the class: where and how first, then who
    *("hospital", "medicalcenter", "medicalcentre", "center", "centre", "site", "siteid", "lab", "laboratory"),
    *("institution", "institute", "clinic", "domain", "scanner", "scannerid", "stain", "staining", "microscope"),
    *("camera", "batch", "preparation", "sitecode", "source", "dataset", "cohort", "organ", "tissue"),
    *("sex", "gender", "race", "ethnicity", "age", "grade", "stage"),
)
PATIENTS_OWN = ATTRIBUTES.index("organ")  # from here on they speak of patients, not of how images were made
NOT_ATTRIBUTES = {
    *("split", "fold", "set", "subset", "partition", "phase", "train", "test", "istrain", "istest", "x", "y", "row"),
    *("width", "height", "size", "index", "md5", "sha256", "classid", "labelid", "unnamed0"),
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


def rank_of_attribute(name: str) -> int:
    """The place of a column's name among the usual ones of attributes; behind all of them where it is none.

    >>> rank_of_attribute("Hospital") < rank_of_attribute("sex") < rank_of_attribute("comment")
    True
    """
    return ATTRIBUTES.index(plain(name)) if plain(name) in ATTRIBUTES else len(ATTRIBUTES)


def likely_missing(values: Iterable[str]) -> list[str]:
    """The spellings among some values that probably mean "not known", sorted; a person decides.

    `NA` is among them, although it is also a site code of TCGA: nothing is ever left out by this guess alone.

    >>> likely_missing(["Rome", "n/a", "NaN", "Rome"])
    ['NaN', 'n/a']
    """
    return sorted({value for value in values if value.strip().casefold() in MISSING})
