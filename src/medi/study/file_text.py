"""A study file as text that a person can read and change: every entry of a proposal with a comment that says why."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from medi.cohort.image_fit import Mode
from medi.study.proposing import LARGE, PRESETS, Proposal
from medi.study.settings import PATHS

WIDTH = 1_000_000  # of a line that YAML writes: it is never broken
SHOWN = 8  # levels in a comment
COMMENT_AT = 44  # column where comments begin
MODES: dict[Mode, str] = {
    "resize": "each image becomes one patch; crop and tile keep the scale (with mpp: micrometres per pixel)",
    "crop": "the images are not square: the centre of each is taken; tile takes all of it",
    "tile": f"images of more than {LARGE} px are cut into patches; resize makes one patch of each",
}
NO_PATIENT = (
    "WARNING: no column is the patient or the slide: patches of one patient can lie on both sides; name one if there is"
)
ROLES = {
    "label": "the class",
    "image": "the path of the image",
    "patient": "never split between training and test",
    "slide": "resampled as one unit; stands for the patient where that is not known",
}
Line = tuple[str, str]  # an entry and its comment
BEST_OF_TWO = "a classifier draws each image towards its class and keeps the better of two"
GUIDED: dict[int, list[Line]] = {  # by the size of the presets for laptops, for which alone guidance was tried
    32: [("sampling: {solver: ipndm, steps: 8, guidance: {classifier: 2, candidates: 2}}", BEST_OF_TWO)],
    64: [
        ("sampling: {solver: ipndm, steps: 8, sigma_max: 80, guidance: {classifier: 2, candidates: 2}}", BEST_OF_TWO),
        ("classifier: {images: 80000, noise_mean: -0.46}", "that classifier, at twice the noise levels of 32 px"),
    ],
}


def file_text(made: Proposal, file: Path) -> str:
    """The text of a study file at `file`: `medi run` takes it as it is."""
    lines: list[Line] = [
        (f"# A study of {one_line(str(made.look.path))}. Every key is optional; `medi run FILE --dry-run` checks.", ""),
        (f"title: {_flow(f'{made.look.path.resolve().stem}, class x {made.attributes[0]}')}", ""),
        ("seed: 0", ""),
        (f"attribute: {_flow(made.attributes[0])}", "what the class is crossed with: held out, planned, measured"),
        (f"preset: {made.preset}", "network and training, as of medi train; patch64 and larger are for a GPU"),
        ("cohort:", ""),
        (f"  source: {_flow(beside(made.look.path, file))}", "paths start from the folder of this file"),
        *_read(made, file),
        (f"  size: {made.size}", "side of the patches in pixels, as that of the preset"),
        (f"  mode: {made.mode}", MODES[made.mode]),
        *_holdout(made.holdout),
        (f"plan: {{to: {made.images_per_combination}, minimum: 100}}", "real and synthetic images of each combination"),
    ]
    lines += GUIDED.get(made.size, [])
    if made.size not in PRESETS:
        lines.append((f"network: {{size: {made.size}}}", "of this size the preset has not been tried"))
    return "".join(map(_line, lines))


def beside(path: Path, file: Path) -> str:
    """A path as it is written in a file: relative where it lies below the file's folder or one above, else whole."""
    relative = Path(os.path.relpath(path.resolve(), file.resolve().parent))
    return str(path.resolve()) if relative.parts[:2] == ("..", "..") else relative.as_posix()


def one_line(text: str) -> str:
    """Text that cannot end a comment."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _read(made: Proposal, file: Path) -> Iterator[Line]:
    """The entries of `cohort.read`: which column is what."""
    if made.look.kind == "packed":
        return
    yield "  read:", "which column is what; '' is none"
    yield f"    kind: {_flow(made.look.kind)}", ""
    for name, value in made.look.options.items():
        if name != "attributes":
            yield _option(made, name, beside(Path(value), file) if name in PATHS else value)
    yield f"    attributes: {_flow(made.as_read)}", _levels_of_attributes(made)
    if made.others:
        yield f"    # further columns that can be attributes: {one_line(', '.join(made.others[:SHOWN]))}", ""
    if made.missing:
        shown = _flow({name: list(texts) for name, texts in made.missing.items()})
        yield f"    # missing: {shown}", "levels that look like 'not known': take away the first # if they are"


def _option(made: Proposal, name: str, value: Any) -> Line:
    table = made.cohort.table
    comment = ROLES.get(name, "") if made.look.kind == "table" else ""
    if name == "label" and value:
        comment = f"the class: {_counts(made, 'class')}"
    elif name in ("patient", "slide") and value:
        comment = f"{table[name].nunique():,}, {comment}"
    elif name == "patient" and made.cohort.warnings:
        comment = NO_PATIENT
    elif name in ("patient", "slide"):
        comment = "no column" if name == "slide" else "no column: its slide stands for the patient"
    return f"    {name}: {_flow(value)}", comment


def _levels_of_attributes(made: Proposal) -> str:
    return "; ".join(f"{name}: {_counts(made, name)}" for name in made.attributes)


def _counts(made: Proposal, column: str) -> str:
    """'4 levels (neutrophil 416, lymphocyte 123, ...)'"""
    found = made.cohort.table[column].value_counts()
    shown = ", ".join(f"{name or '(not known)'} {n:,}" for name, n in found.head(SHOWN).items())
    return one_line(f"{len(found)} levels ({shown}{', ...' if len(found) > SHOWN else ''})")


def _holdout(rule: Mapping[str, Any]) -> Iterator[Line]:
    """The entries of `holdout`, a line each where combinations are named."""
    if "held" not in rule:
        yield f"holdout: {_flow(dict(rule))}", "share of the combinations that training never sees"
        return
    aside = "; most patients have patches of several, so theirs are set aside" if "set_aside" in rule else ""
    yield "holdout:", f"combinations that training never sees{aside}; {{rate: 0.3}} draws some at random"
    for name, value in rule.items():
        if name == "held":
            yield "  held:", ""
            yield from ((f"    - {_flow(levels)}", "") for levels in value)
        else:
            yield f"  {name}: {_flow(value)}", ""


def _flow(value: object) -> str:
    """A value on one line of YAML."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=WIDTH, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _line(line: Line) -> str:
    entry, comment = line
    return f"{entry + '  ':{COMMENT_AT}}# {comment}\n" if comment else f"{entry}\n"
