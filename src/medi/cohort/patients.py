"""Whether patients are known: where no column names them, every patch counts as a patient of its own."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

RARE = 5  # patients below which a combination counts as rare, and a mean below which a grade is little worth
PROVEN = ("strong", "alarm")  # grades that few patients can reach by what they show alone


def too_few(size: Mapping[str, Any], grades: Mapping[str, str]) -> str:
    """A caution where an audit has so few patients that its grades are no all-clear; "" otherwise.

    A class at a level with one or two patients cannot be learned from the others, so that even an attribute that gives
    the class away is graded low. size, grades: as of an `Audit`.

    >>> too_few({"patients": 37, "combinations": {"site": {"combinations": 32, "empty": 3}}}, {"site": "none"})
    '37 patients are too few to grade site well (1.3 in each combination with the class): "none" is no all-clear'
    """
    found = {name: gaps["combinations"] - gaps["empty"] for name, gaps in size.get("combinations", {}).items()}
    patients, low = size.get("patients", 0), {name for name, grade in grades.items() if grade not in ("", *PROVEN)}
    each = {name: patients / number for name, number in found.items() if number and name in low}
    if not (few := {name: mean for name, mean in each.items() if mean < RARE}):
        return ""
    said = ", ".join(dict.fromkeys(f'"{grades[name]}"' for name in few))
    least = f"{min(few.values()):.1f} in each combination with the class"
    verb = "is" if patients == 1 else "are"
    what = f"{patients:,} patient{'' if patients == 1 else 's'} {verb} too few to grade {', '.join(few)} well"
    return f"{what} ({least}): {said} is no all-clear"


def patients_unknown(table: pd.DataFrame) -> str:
    """A warning where neither patient nor slide of any patch is known; "" otherwise.

    table: the columns sample_id, image and patient of a cohort. A hold-out then splits patches instead of patients, and
    patches of one patient come to lie on both sides (P5).

    >>> patients_unknown(pd.DataFrame({"sample_id": ["a", "b"], "image": ["a", "b"], "patient": ["p", "p"]}))
    ''
    """
    stands_in = [table[name] for name in ("sample_id", "image") if name in table]
    if "patient" not in table or not any((table["patient"] == own).all() for own in stands_in):
        return ""
    return (
        f"no column is the patient: each of the {len(table):,} patches counts as a patient of its own, and patches of "
        "one patient can lie on both sides of a split; if the table has such a column, name it (--patient, or --slide "
        "at least; in a study file patient: and slide: under read:), else take no figure for one of unseen patients"
    )
