"""The main figures in every encoder that a study names: the first one decides, the others stand beside it."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from medi.core.claims import PRIMARY
from medi.core.tables import of_main_probe
from medi.figures.names import in_order, known, number
from medi.report.parts import Table, table_of
from medi.report.run import Run, pick
from medi.report.verdict import beside, worst_class

AS_ASKED = "as_asked"


def asked_by_encoder(run: Run) -> Table | None:
    """The shares as asked by attribute and split, and those of the class that is shown worst."""
    if run.by_encoder.empty:
        return None
    lines = [line for encoder, rows in _asked(run) for line in _asked_lines(encoder, rows)]
    return table_of("As asked, by each encoder", pd.DataFrame(lines)) if lines else None


def recall_by_encoder(run: Run) -> Table | None:
    """The mean recall over combinations of the training sets that every encoder was measured with."""
    others = pick(run.by_encoder, metric=PRIMARY, scope="all")
    if others.empty:
        return None
    own = pick(run.utility, metric=PRIMARY, scope="all", arm=list(dict.fromkeys(others["arm"])))
    rows = pd.concat([own.assign(encoder=_first(run)), others])
    return table_of("Mean recall over all combinations, by each encoder", pd.DataFrame(_lines(rows, ["split"])))


def spoken_by_encoder(by_encoder: pd.DataFrame, fidelity: pd.DataFrame) -> list[str]:
    """A paragraph for each further encoder, of unseen combinations, from its tables."""
    if by_encoder.empty:
        return []
    return [_said(fidelity, str(name), rows) for name, rows in by_encoder.groupby("encoder", sort=False)]


def _said(fidelity: pd.DataFrame, encoder: str, rows: pd.DataFrame) -> str:
    shown = of_main_probe(rows)
    asked = pick(shown, metric=AS_ASKED, scope="all", attribute="class", split="unseen")
    recall = pick(rows, metric=PRIMARY, scope="all", split="all")
    distance = pick(fidelity, metric="frechet", scope="combination_mean", split="unseen", encoder=encoder)
    parts = (
        _pair(
            asked, "medi", "real", "On unseen combinations {0} of MeDi’s images show the class as asked, {1} of real"
        ),
        _pair(recall, "medi", "real", "Mean recall over all combinations is {0} with MeDi, {1} with real images alone"),
        _pair(distance, "medi", "floor", "MeDi is {0} from real images of unseen combinations, at a floor of {1}"),
    )
    said = [*(f"{part}." for part in parts if part), *beside(pick(rows, attribute=""))]
    return " ".join([f"In the features of {_short(encoder)}:", *said])


def _pair(rows: pd.DataFrame, first: str, second: str, text: str) -> str:
    """A text with the values of two arms, nothing where one is not known."""
    values = [rows.loc[rows["arm"] == arm, "value"].mean() if len(rows) else None for arm in (first, second)]
    return text.format(*map(number, values)) if all(map(known, values)) else ""


def _asked(run: Run) -> Iterator[tuple[str, pd.DataFrame]]:
    """The figures of the probe that counts, encoder by encoder, the first one first."""
    if len(run.control):
        yield _first(run), of_main_probe(run.control)
    for name, rows in run.by_encoder.groupby("encoder", sort=False):
        yield str(name), of_main_probe(rows)


def _asked_lines(encoder: str, rows: pd.DataFrame) -> list[dict[str, Any]]:
    shares = pick(rows, metric=AS_ASKED, scope="all").assign(encoder=encoder)
    worst = worst_class(rows, "medi")
    if worst is None:
        return _lines(shares, ["attribute", "split"])
    name, made, real = worst
    line = {"encoder": _short(encoder), "attribute": f"class {name}, the worst", "split": "unseen"}
    return [*_lines(shares, ["attribute", "split"]), line | {"real": real.value, "medi": made.value}]


def _lines(rows: pd.DataFrame, by: Sequence[str]) -> list[dict[str, Any]]:
    """A line for each encoder and what else is named, a column per arm."""
    arms, lines = in_order(rows["arm"]), []
    for place, part in rows.groupby(["encoder", *by], sort=False):
        values = part.groupby("arm")["value"].mean()
        head = dict(zip(["encoder", *by], map(str, place)))
        lines.append(head | {"encoder": _short(head["encoder"])} | {arm: values.get(arm) for arm in arms})
    return lines


def _first(run: Run) -> str:
    """The study's own encoder."""
    return str(run.results.encoder.get("name") or run.main(run.fidelity)["encoder"].iloc[0])


def _short(label: str) -> str:
    """The name in a label, which has the hash beside it."""
    return label.split(" ")[0]
