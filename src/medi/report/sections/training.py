"""Loss curves of both models."""

import pandas as pd

from medi import figures
from medi.figures.names import arm_name, number
from medi.report.parts import Picture, Section, table_of
from medi.report.run import Run


def training(run: Run) -> Section:
    section = ("training", "How were the models trained?")
    if run.training.empty:
        return Section(*section, ["No model has been trained yet."])
    ends = " ".join(_end(str(model), rows) for model, rows in run.training.groupby("model", sort=False))
    several = {"cls", "medi"} <= set(run.training["model"])
    picture = Picture(
        "Training curves",
        figures.training_curves(run.training),
        f"Loss over the number of training images drawn. {ends}",
        f"{'Both models are trained alike. ' if several else ''}{ends} A loss does not measure the quality of images.",
        table_of("Loss along training", run.training, open=False),
    )
    return Section(*section, blocks=[picture])


def _end(model: str, rows: pd.DataFrame) -> str:
    last = rows.iloc[-1]
    end = f"after {number(last['images'])} images with a loss of {number(last['loss'])}."
    return f"{arm_name(model)} ends {end}"
