"""The model card of an export: what the model was trained on, what it never saw, what it is for."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from medi.cohort.schema import Attribute, Schema
from medi.models.checkpoint import Checkpoint

Counts = Mapping[str, Mapping[str, int]]  # class -> level of an attribute -> training patches
UNKNOWN = "not recorded in this checkpoint"
INTENDED = """\
Research on batch effects in computational pathology: generating combinations of class and metadata that a training set
lacks, and questioning classifiers with them. Not for diagnosis, and not as a substitute for patients' data in
validation."""
LIMITS = """\
- The images show what the model learned of its training patches, at their size and resolution, with their biases.
- Combinations that training never saw are extrapolations; compare them with real images before relying on them.
- A level with few training patches is drawn from few patients.
- Mixes of levels are points between learned styles. They belong to no real site."""


def card(checkpoint: Checkpoint, class_name: str = "class_", data_licence: str = "", tested: Sequence[str] = ()) -> str:
    """README.md of an export from what its checkpoint says. tested: the sentences of `medi.export.tested`."""
    schema = checkpoint.schema
    sections = {
        "Use": _use(schema, class_name),
        "Conditions": _conditions(schema, class_name),
        "Training combinations": _combinations(checkpoint.combinations, schema),
        "Memorisation": " ".join(map(_escape, tested)) or "Not tested.",
        "Settings": _settings(checkpoint),
        "Data and their licences": _data(checkpoint.info, data_licence),
        "Intended use": INTENDED,
        "Limits": LIMITS,
    }
    head = "---\nlibrary_name: diffusers\ntags: [histopathology, diffusion, medi]\n---\n\n# MeDi: histology patches "
    head += f"of {checkpoint.network.size} px from class and metadata\n"
    return head + "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items())


def _use(schema: Schema, class_name: str) -> str:
    names = [class_name, *(attribute.name for attribute in schema.attributes)]
    examples = [attribute.levels[0] if attribute.levels else attribute.center for attribute in schema.conditions]
    given = "".join(f"    {_argument(name, value)},\n" for name, value in zip(names, examples))
    return f"""\
Needs `pip install diffusers torch pandas jaxtyping`.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("THIS FOLDER", trust_remote_code=True)
image = pipe(
{given}    num_inference_steps=16,
).images[0]
```

Conditions also take lists (an image each), mixes of levels such as `{{"one": 0.7, "other": 0.3}}`, and None for "not
known". The code that `trust_remote_code` runs is `pipeline.py` and `denoiser/denoiser.py` in this folder."""


def _argument(name: str, value: object) -> str:
    """name="level", also where the name is no Python name."""
    return f"{name}={_quoted(value)}" if name.isidentifier() else f"**{{{_quoted(name)}: {_quoted(value)}}}"


def _quoted(value: object) -> str:
    return repr(value).replace("`", "\\x60")


def _conditions(schema: Schema, class_name: str) -> str:
    return "\n".join(f"- {_escape(_title(a, class_name))}: {_range(a)}" for a in schema.conditions)


def _title(attribute: Attribute, class_name: str) -> str:
    return f"{class_name} (the class)" if attribute.name == "class" else attribute.name


def _range(attribute: Attribute) -> str:
    if attribute.kind == "categorical":
        return _names(attribute.levels)
    return f"a number; in training {attribute.center:.4g} on average with standard deviation {attribute.scale:.4g}"


def _combinations(found: Mapping[str, Any] | None, schema: Schema) -> str:
    """For every other categorical column: the levels that each class has in training, with counts, and the rest."""
    if found is None:
        return f"{UNKNOWN.capitalize()}."
    columns, rows = found["columns"], found["rows"]
    text = [f"{sum(row[-1] for row in rows):,} training patches."]
    for place, column in enumerate(columns[1:], start=1):
        counts = _by_class(rows, place)
        known = {attribute.name: attribute.levels for attribute in schema.conditions}
        levels = known.get(column) or sorted({row[place] for row in rows} - {""})
        text.append(_table(column, counts, known["class"], levels))
    if len(columns) == 1:
        text.append("\n".join(f"- {_escape(row[0])}: {row[-1]:,}" for row in rows))
    return "\n\n".join(text)


def _by_class(rows: Iterable[Sequence[Any]], place: int) -> Counts:
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in rows:
        counts[row[0]][row[place]] += row[-1]
    return counts


def _table(column: str, counts: Counts, classes: Sequence[str], levels: Sequence[str]) -> str:
    lines = [f"| class | {_escape(column)}, with training patches | never seen with this class |", "|---|---|---|"]
    for name in classes:
        seen = counts.get(name, {})
        present = [f"{_escape(level) or 'not known'} {n:,}" for level, n in seen.items()]
        absent = _names([level for level in levels if level not in seen])
        lines.append(f"| {_escape(name)} | {', '.join(present) or 'none'} | {absent} |")
    return "\n".join(lines)


def _settings(checkpoint: Checkpoint) -> str:
    flat = {
        "checkpoint": checkpoint.hash or None,
        "images seen in training": checkpoint.images,
        "seed": checkpoint.seed,
    }
    flat |= {f"network: {key}": value for key, value in asdict(checkpoint.network).items()}
    flat |= {f"training: {key}": value for key, value in checkpoint.recipe.items()}
    flat |= {"training data (hash)": checkpoint.data or None}
    return "\n".join(f"- {key}: {_escape(str(UNKNOWN if value is None else value))}" for key, value in flat.items())


def _data(info: Mapping[str, Any], licence: str) -> str:
    if info.get("source") == "phantom":
        return "Procedural patches (the phantom cohort of MeDi). No patient's data; anybody may use them."
    where = info.get("reader") or info.get("source")
    licence = _escape(licence) or f"{UNKNOWN}: find out before this model or its images are shared"
    return f"Source: {_escape(str(where or UNKNOWN))}. Licence of the training data: {licence}."


def _names(levels: Iterable[str]) -> str:
    return ", ".join(map(_escape, levels)) or "none"


def _escape(text: str) -> str:
    """Names from metadata as plain text in Markdown (P11)."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~$])", r"\\\1", plain)
