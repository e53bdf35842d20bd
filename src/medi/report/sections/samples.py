"""Real, MeDi and CLS patches of each combination: the paper's Figure 4."""

from collections.abc import Sequence

from medi import figures
from medi.figures.names import arm_name, of_arm
from medi.figures.patches import SOURCES
from medi.report.parts import Picture, Section, table_of
from medi.report.pictures import sample_figure
from medi.report.run import Run


def samples(run: Run) -> Section:
    section = ("samples", "What do the images look like?")
    if run.sheet is None or not len(run.sheet):
        return Section(*section, ["No images have been sampled yet, so there is no grid to show."])
    table, attribute = run.sheet.table, run.attribute
    most = {attribute: figures.GRID_ROWS, "class": figures.GRID_BLOCKS}
    cut = "".join(f" The first {n} by {name} are shown." for name, n in most.items() if table[name].nunique() > n)
    shown = [name for name in SOURCES if name in run.sets] + [n for n in run.sets if n not in SOURCES]
    blocks = ", then ".join(of_arm(name) for name in shown)
    picture = Picture(
        f"{_listed(['Real', *map(arm_name, shown)])} patches by {attribute} and class",
        sample_figure(run, run.sheet),
        f"Grid of {run.sheet.images.size} pixel patches: {table[attribute].nunique()} rows, one per {attribute}; "
        f"{table['class'].nunique()} blocks, one per class. Each block shows real patches, then {blocks}. "
        f"{len(run.unseen)} combinations without a training patch are framed.",
        f"Each row is a {attribute}, each block a class. {_given(shown, attribute)}Frames mark combinations of which "
        f"no model has seen a patch.{cut}",
        table_of("The patches of the grid", table, open=False),
    )
    return Section(*section, blocks=[picture])


def _given(sets: Sequence[str], attribute: str) -> str:
    """What the two models of a study are told, those that there are."""
    told = {"medi": f"MeDi is given class and {attribute}", "cls": "CLS is given the class alone"}
    said = "; ".join(text for name, text in told.items() if name in sets)
    look = "MeDi’s patches should look like the real ones of their own row. " if "medi" in sets else ""
    return f"{said}. {look}" if said else ""


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
