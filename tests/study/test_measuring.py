"""What a stage says when it is done: undefined is a dash or a reason, never "nan" (P7)."""

import pandas as pd

from medi.study.measuring import _listed


def test_what_is_undefined_is_a_dash_or_its_reason() -> None:
    """Defect: "copies: real nan, cls nan, medi nan" where too few patches are reserved."""
    rows = pd.DataFrame({"arm": ["real", "medi"], "value": [float("nan"), 0.0123], "reason": ["too few", ""]})
    assert _listed(rows) == "real –, medi 0.012"
    assert _listed(rows.head(1)) == "not known (too few)"
    assert _listed(rows.head(1).assign(reason="")) == "not known"
    assert _listed(rows.tail(1), 1) == "medi 0.0"
    assert _listed(rows.head(0)) == ""
