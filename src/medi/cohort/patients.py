"""Whether patients are known: where no column names them, every patch counts as a patient of its own."""

import pandas as pd


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
        "one patient can lie on both sides of a split; name the column (--patient, or --slide at least)"
    )
