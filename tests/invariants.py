"""The invariants of the design and how a test names those that it guards: "P3" in its docstring, "_p3" in its name."""

import re

INVARIANTS = {
    "P1": "labels travel with weights",
    "P2": "one preprocessing path",
    "P3": "sample i is sample i",
    "P4": "resume is exact",
    "P5": "no leakage",
    "P6": "metadata is text until the schema says otherwise",
    "P7": "undefined is NaN with a reason",
    "P8": "equal n or no comparison",
    "P9": "patches are not independent",
    "P10": "offline",
    "P11": "safe files",
    "P12": "a kill loses at most the unit in work",
    "P13": "no claim against chance",
    "P14": "the class counts as much as the site",
    "P15": "nothing of the user's is overwritten or lost",
}
IN_TEXT, IN_NAME = re.compile(r"\b(P\d+)\b"), re.compile(r"_(p\d+)(?![a-z0-9])")


def guarded(name: str, docstring: str | None) -> set[str]:
    """The invariants that a test names.

    >>> sorted(guarded("test_resume_p4_p12", "P3: sample i is sample i."))
    ['P12', 'P3', 'P4']
    """
    found = {*IN_TEXT.findall(docstring or ""), *(part.upper() for part in IN_NAME.findall(name))}
    return found & set(INVARIANTS)
