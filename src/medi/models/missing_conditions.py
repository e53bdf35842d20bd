"""What is not known about a real patch, said in the way that the model has learned: its token for "not known" where
training rows had it, else the null vector of conditioning dropout."""

import pandas as pd
from jaxtyping import Float
from torch import Tensor

from medi.core.errors import MediError
from medi.models.checkpoint import Checkpoint
from medi.models.denoiser import Denoiser
from medi.models.level_mix import condition


def condition_known(denoiser: Denoiser, checkpoint: Checkpoint, rows: pd.DataFrame) -> Float[Tensor, "n d"]:
    """z_cond [n, d] of rows in which conditions may be missing, told as this training can be told.

    Raises MediError where a model trained without dropout never met a row without this condition: both vectors would
    be noise.
    """
    rows = rows.reset_index(drop=True)
    never = [a for a in denoiser.schema.conditions if not checkpoint.met_missing(a)]
    unknown = pd.DataFrame({a.name: rows[a.name].isin(a.missing) for a in never if a.name in rows}, index=rows.index)
    z = condition(denoiser, rows)
    if not unknown.to_numpy().any():
        return z
    for name in unknown.columns[unknown.any()]:
        if not checkpoint.drops(name):
            raise MediError(_untold(unknown[name]))
    for pattern, part in unknown.groupby(list(unknown.columns)):
        dropped = [name for name, missing in zip(unknown.columns, pattern) if missing]
        z[list(part.index)] = condition(denoiser, rows.loc[part.index], dropped)
    return z


def check_met(name: str, checkpoint: Checkpoint, rows: pd.DataFrame) -> None:
    """Refuse rows to sample that lack a condition which training rows never lacked: its vector has learned nothing.

    name: how the message calls the model.
    """
    for attribute in checkpoint.schema.conditions:
        if attribute.name not in rows or checkpoint.met_missing(attribute):
            continue
        empty = rows[attribute.name].isin(attribute.missing).to_numpy(dtype=bool)
        if empty.any():
            raise MediError(
                f"{attribute.name} is empty in row {int(empty.argmax())} to sample ({empty.sum():,} in all), and "
                f"{name} was trained on rows that all have it; write one of its levels there"
            )


def _untold(unknown: pd.Series) -> str:
    return (
        f"{unknown.name} is not known (row {int(unknown.to_numpy().argmax())}), and the model was trained on rows that "
        f"all have it, without conditioning dropout: state it, or train with dropout (training: {{dropout: 0.1}})"
    )
