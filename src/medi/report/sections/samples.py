"""Real, MeDi and CLS patches of each combination: the paper's Figure 4."""

from medi import figures
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
    picture = Picture(
        f"Real, MeDi and CLS patches by {attribute} and class",
        sample_figure(run, run.sheet),
        f"Grid of {run.sheet.images.size} pixel patches: {table[attribute].nunique()} rows, one per {attribute}; "
        f"{table['class'].nunique()} blocks, one per class. Each block shows real patches, then MeDi’s, then CLS’s. "
        f"{len(run.unseen)} combinations without a training patch are framed.",
        f"Each row is a {attribute}, each block a class. MeDi is given class and {attribute}; CLS is given the class "
        "alone. MeDi’s patches should look like the real ones of their own row. Frames mark combinations of which no "
        f"model has seen a patch.{cut}",
        table_of("The patches of the grid", table, open=False),
    )
    return Section(*section, blocks=[picture])
