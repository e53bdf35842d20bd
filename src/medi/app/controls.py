"""Lists of levels and what the page says of them: only valid ones can be chosen, never-seen ones are marked.

Lists carry the place of a level in the model's schema, -1 for "not known", so that no name is ever parsed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from medi.app.pictures import NOT_KNOWN
from medi.app.workbench import Model, Workbench
from medi.cohort.schema import Attribute

UNKNOWN = -1
NO_MIX = -2
Choices = list[tuple[str, int]]


def choices(model: Model, attribute: Attribute, marked: Sequence[str] = (), mark: str = "never seen") -> Choices:
    """(what a person reads, place) of each level that may be chosen."""
    levels = model.levels(attribute)
    names = [f"{level or NOT_KNOWN} · {mark}" if level in marked else level or NOT_KNOWN for level in levels]
    return [(name, place(attribute, level)) for name, level in zip(names, levels)]


def place(attribute: Attribute, level: str) -> int:
    return attribute.levels.index(level) if level in attribute.levels else UNKNOWN


def level_at(attribute: Attribute, value: Any) -> str:
    """The level that a control stands at; a number for a continuous attribute, "" where it is not known."""
    if attribute.kind == "continuous":
        return attribute.missing[0] if value is None and attribute.missing else str(value)
    found = UNKNOWN if value is None else int(value)
    return attribute.levels[found] if 0 <= found < len(attribute.levels) else (*attribute.missing, "")[0]


def control(model: Model, attribute: Attribute, value: str, elem_id: str, marked: Sequence[str] = ()) -> Any:
    """The list of an attribute's levels, or a field for its number."""
    if attribute.kind == "continuous":
        return gr.Number(float(value or attribute.center), label=attribute.name, elem_id=elem_id)
    return gr.Dropdown(
        choices(model, attribute, marked),
        value=place(attribute, value),
        label=attribute.name,
        elem_id=elem_id,
        filterable=False,
    )


def default_conditions(bench: Workbench) -> dict[str, str]:
    """What the page opens with: a combination that training never saw, if there is one; else the commonest."""
    counts, schema = bench.counts, bench.first.schema
    seen = counts.loc[counts.sum(axis=1) > 0]
    empty = [(c, level) for c in seen.index for level in seen.columns if not seen.loc[c, level] and seen[level].sum()]
    row, column = divmod(int(counts.to_numpy().argmax()), counts.shape[1])
    class_, level = empty[0] if empty else (counts.index[row], counts.columns[column])
    found = {"class": str(class_), bench.crossed: str(level)}
    return {a.name: found.get(a.name) or _usual(bench, a) for a in schema.conditions}


def _usual(bench: Workbench, attribute: Attribute) -> str:
    if attribute.kind == "continuous":
        return str(attribute.center)
    return str(bench.training.table[attribute.name].mode().iloc[0])


def marks(bench: Workbench, model: Model, class_: str) -> dict[str, list[str]]:
    """Per attribute the levels that training never saw with this class."""
    named = [a for a in model.schema.attributes if a.kind == "categorical"]
    return {a.name: bench.unseen_levels(model, a, class_) for a in named}


def model_label(model: Model) -> str:
    return f"{model.name}: {', '.join(a.name for a in model.schema.conditions)}"


def restricted(model: Model, conditions: Mapping[str, str]) -> dict[str, str]:
    """Those of the conditions that a model knows."""
    return {a.name: conditions[a.name] for a in model.schema.conditions}
