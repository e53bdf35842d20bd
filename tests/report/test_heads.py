"""The table of training sets by heads, and its sentences: what was measured, nothing that was not (P7, P13)."""

import numpy as np
import pandas as pd

from medi.report.heads import by_head, heads_sentences, heads_table


def row(metric: str, head: str, arm: str, value: float, against: str = "", reason: str = "") -> dict[str, object]:
    made = 5 if arm.startswith("medi") else 0
    counts = {"n_real": 80, "n_patients": 8, "n_train": 40, "n_synthetic": made, "panel": "inductive"}
    place = {"metric": metric, "head": head, "arm": arm, "against": against, "split": "all", "scope": "all"}
    limits = {"value": value, "low": value - 0.1, "high": value + 0.1, "p_value": 0.01, "p_adjusted": 0.02}
    return place | limits | counts | {"reason": reason}


def heads() -> pd.DataFrame:
    values = {("crm", "real"): 0.9, ("crm", "medi"): 0.93, ("leace", "real"): 0.8, ("leace", "medi"): 0.75}
    rows = [row("mean_recall", head, arm, value) for (head, arm), value in values.items()]
    rows += [row("mean_recall", "combat", arm, np.nan, reason="every level has one class") for arm in ("real", "medi")]
    rows += [row("mean_recall", "chosen", arm, 0.9, reason="head crm; other") for arm in ("real", "medi")]
    for head, apart in {"crm": 0.03, "leace": -0.05, "combat": np.nan, "chosen": 0.0}.items():
        rows.append(row("mean_recall_difference", head, "medi", apart, "real"))
    return pd.DataFrame(rows)


def test_a_row_is_a_set_and_a_column_a_head() -> None:
    wide = by_head(heads())
    assert wide.index.tolist() == ["real", "medi"]
    assert wide.loc["medi", "crm"] == 0.93
    assert np.isnan(wide.loc["real", "combat"])


def test_what_is_undefined_has_its_reason_and_the_chosen_head_its_name() -> None:
    table = heads_table(heads())
    assert table is not None
    line = dict(zip(table.columns, (entry.text for entry in table.rows[1])))
    assert line["training set"] == "+ MeDi"
    assert line["ComBat"] == "– (every level has one class)"
    assert line["chosen by training"] == "0.900 [0.800, 1.000] (CRM)"


def test_the_sentences_speak_of_the_same_head_and_of_each_sets_own() -> None:
    same, own = heads_sentences(heads())
    assert "MeDi less real only is −0.050 (LEACE) to +0.030 (CRM). It is above 0 under 1 of 2 heads" in same
    assert "MeDi 0.900 (CRM), real only 0.900 (CRM); the difference is +0.000 [−0.100, +0.100]" in own


def test_without_heads_there_is_nothing_to_say() -> None:
    empty = pd.DataFrame()
    assert by_head(empty).empty
    assert heads_table(empty) is None
    assert heads_sentences(empty) == []


def test_a_normalised_set_stands_beside_real_images_under_the_same_normalisation() -> None:
    both, own = "medi_macenko", "macenko"
    rows = [row("mean_recall", "crm", both, 0.94), row("mean_recall", "crm", own, 0.92)]
    rows += [row("mean_recall_difference", "crm", both, 0.04, "real")]
    rows += [row("mean_recall_difference", "crm", both, 0.02, own)]
    said = heads_sentences(pd.concat([heads(), pd.DataFrame(rows)], ignore_index=True))
    assert said[2].startswith(
        "Under one and the same head, MeDi after Macenko normalisation less Macenko normalisation is +0.020 (CRM)"
    )
    assert len(said) == 3, "it has no head that training chose"
