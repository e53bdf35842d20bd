"""A model without its run: it samples as in the app of a run, but has no real patches to lay beside its images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from medi.app.workbench import MODEL_FILE, Model, Neighbours, Shown, Workbench
from medi.cohort.schema import Attribute
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.models.checkpoint import Checkpoint, load_checkpoint
from medi.sampling.sampler import SamplerSettings
from medi.study.settings import StudySettings

LARGE, SIGMA_MAX = 64, 80.0  # side from which images are begun at this noise level (docs/how-to/training.md)


class LoneModel(Workbench):
    """What a checkpoint alone tells: its conditions, and how many training patches each combination had."""

    has_patches = False

    def __init__(self, path: Path, scratch: Path) -> None:
        path = path / MODEL_FILE if path.is_dir() else path
        checkpoint = load_checkpoint(path)
        named = [a.name for a in checkpoint.schema.attributes if a.kind == "categorical"]
        if not named:
            raise MediError(f"{path}: knows the class alone; the app shows models that know an attribute as well")
        name = path.parent.name or path.stem
        sampling = SamplerSettings(sigma_max=SIGMA_MAX) if checkpoint.network.size >= LARGE else SamplerSettings()
        self.folder, self.scratch = path.parent, scratch
        self.settings = StudySettings(title=f"The model {name}", attribute=named[0], sampling=sampling)
        self.models = {name: Model(name, path, checkpoint)}
        self.is_counted = bool(checkpoint.combinations)
        self.whole = self.training = Cohort(_trained_on(checkpoint), checkpoint.schema)

    def trained(self, model: Model, conditions: Mapping[str, str]) -> int | None:
        return super().trained(model, conditions) if self.is_counted else None

    def unseen_levels(self, model: Model, attribute: Attribute, class_: str) -> list[str]:
        return super().unseen_levels(model, attribute, class_) if self.is_counted else []

    def real(self, conditions: Mapping[str, str], n: int, seed: int = 0) -> Shown | None:
        return None

    def made(self, model: Model, conditions: Mapping[str, str], n: int) -> Shown | None:
        return None

    def nearest(self, images: UInt8[np.ndarray, "n h w 3"]) -> Neighbours | None:
        return None

    @property
    def classifier(self) -> None:
        return None

    @property
    def alarms(self) -> list[str]:
        return []

    @property
    def verdict(self) -> list[str]:
        return []


def _trained_on(checkpoint: Checkpoint) -> pd.DataFrame:
    """A row per training patch, with its levels alone; a row per combination where the file does not count them."""
    schema = checkpoint.schema
    found: Any = checkpoint.combinations
    if found:
        rows = pd.DataFrame([row[:-1] for row in found["rows"]], columns=found["columns"], dtype=str)
        table = rows.loc[np.repeat(rows.index.to_numpy(), [row[-1] for row in found["rows"]])]
    else:
        named = [a for a in schema.conditions if a.kind == "categorical"]
        levels = pd.MultiIndex.from_product([a.levels for a in named], names=[a.name for a in named])
        table = levels.to_frame(index=False)
    lacking = {a.name: str(a.center) for a in schema.attributes if a.name not in table}
    ids = [str(i) for i in range(len(table))]
    return table.assign(**lacking, sample_id=ids, patient=ids, slide=ids, split="train").reset_index(drop=True)
