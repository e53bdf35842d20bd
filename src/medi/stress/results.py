"""The answer to a stress test: its figures, the largest changes and its page, whatever the patches were changed by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from medi.cohort.pixels import Pixels
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort
from medi.core.files import STRESS_FORMAT, read_json, write_json, write_table
from medi.core.outputs import refuse_other
from medi.core.showing import Shown
from medi.report.stress import build
from medi.stress.measuring import ALL, Asked, measure

WORST = 12  # pairs shown
VIEWS = ("sample_id", "pair", "view", "class", "patient", "slide")  # columns of the largest changes, before the level


@dataclass(frozen=True)
class StressResults(Shown):
    """What `stress` found. table: the figures of `measure`; translated: the patches shown at another level.

    changed: by level where the features of the same patches came from, none where a model translated them. remarks:
    what must be known to read the figures. request: what else was asked, which another request is compared with.
    """

    classifier: str
    classes: tuple[str, ...]
    attribute: str
    levels: tuple[str, ...]
    patches: int
    translated: int
    table: pd.DataFrame
    changed: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    request: Mapping[str, object] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.classifier}, {self.patches:,} patches at another {self.attribute}"

    def to_frame(self) -> pd.DataFrame:
        """The figures over all classes and levels."""
        whole = self.table[(self.table["class"] == ALL) & (self.table["level"] == ALL)]
        return whole[["metric", "kind", "value", "low", "high", "n", "n_slides", "reason"]].reset_index(drop=True)

    @property
    def figures(self) -> dict[str, tuple[float, float, float]]:
        """Value and interval by "<metric> <kind>", over all classes and levels."""
        table = self.to_frame()
        names = table["metric"] + " " + table["kind"]
        return dict(zip(names, table[["value", "low", "high"]].itertuples(index=False, name=None)))

    def save(self, folder: Path) -> Path:
        """Write results.json and tables/stress.parquet; returns the folder."""
        write_table(folder / "tables" / "stress.parquet", self.table)
        names = ("classifier", "classes", "attribute", "levels", "patches", "translated", "changed", "remarks")
        content = {name: getattr(self, name) for name in (*names, "figures")}
        write_json(folder / "results.json", {"format_version": STRESS_FORMAT} | content | dict(self.request))
        return folder


def answered(
    asked: Asked,
    name: str,
    attribute: str,
    out: Path,
    worst: Cohort,
    seed: int,
    changed: Mapping[str, str] | None = None,
    remarks: tuple[str, ...] = (),
    request: Mapping[str, object] | None = None,
) -> StressResults:
    """Measure what the classifier of this name said, and write tables, results.json, worst and stress.html to `out`."""
    levels = tuple(sorted(set(asked.rows[attribute])))
    sizes = len(asked.table), int((~asked.own).sum())
    table = measure(asked, attribute, seed)
    results = StressResults(
        name, asked.classes, attribute, levels, *sizes, table, changed or {}, remarks, request or {}
    )
    results.save(out)
    worst.save(out / "worst")
    build(out)
    return results


def refuse_another(out: Path, asked: Mapping[str, object]) -> None:
    """Refuse to overwrite the results of another question. Given features and a model's patches are never the same."""
    if (out / "results.json").exists():
        old = read_json(out / "results.json")
        kept = {name: old.get(name) for name in asked}
        refuse_other(out, "stress test", _made_by(old) | kept, _made_by(asked) | dict(asked))


def _made_by(content: Mapping[str, object]) -> dict[str, object]:
    return {"changed by": "given features" if content.get("changed") else "a model"}


def worst_of(asked: Asked, attribute: str, schema: Schema, images: tuple[Pixels, Pixels] | None = None) -> Cohort:
    """The largest changes, one of a patch: rows as it is, back at its own level (where there is a floor), translated.

    images: of `asked.table` and of `asked.rows`; without them the rows have none.
    """
    order = pd.Series([i for i in np.argsort(-asked.changes, kind="stable") if not asked.own[i]], dtype=np.int64)
    chosen = order[~pd.Series(asked.source[order]).duplicated()][:WORST]
    floor = {int(source): i for i, source in enumerate(asked.source) if asked.own[i]}
    table, places = [], []
    for pair, i in enumerate(chosen):
        source = int(asked.source[i])
        back = [("back", 1, floor[source])] if source in floor else []
        for what, where, at in [("as is", 0, source), *back, ("translated", 1, i)]:
            row = (asked.table, asked.rows)[where].iloc[at]
            scores = (asked.before, asked.after)[where][at]
            said = {"predicted": asked.classes[int(scores.argmax())], "score": f"{scores.max():.3f}"}
            kept = {name: row[name] for name in ("class", "patient", "slide", attribute)}
            named = {"sample_id": f"{pair} {what}", "pair": str(pair), "view": what}
            table.append(named | kept | said | {"source": asked.table["sample_id"].iloc[source]})
            places.append((where, at))
    frame = pd.DataFrame(table, columns=[*VIEWS, attribute, "predicted", "score", "source"])
    return Cohort(frame, schema, _seen(images, places) if images else None)


def _seen(images: tuple[Pixels, Pixels], places: list[tuple[int, int]]) -> Pixels:
    size = images[0].size
    found = [images[where][[at]][0] for where, at in places]
    return Pixels.of(np.array(found, dtype=np.uint8).reshape(-1, size, size, 3))
