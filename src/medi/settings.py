"""Study files: what a study is asked to do, checked before anything runs."""

from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medi.diffusion.denoiser import NetworkSettings
from medi.diffusion.sampling import SamplerSettings
from medi.diffusion.training import Recipe
from medi.errors import MediError


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CohortSettings(_Section):
    """The embedded phantom: patch size in pixels and number of patches."""

    size: Literal[32, 64] = 32
    patches: int = Field(default=4000, ge=200)


class HoldoutSettings(_Section):
    """Share of the combinations held out, of the other patients set aside for the validation loss, and how many
    patients every class and level keeps in training (all where it has fewer)."""

    rate: float = Field(default=0.3, gt=0, lt=1)
    min_patients: int = Field(default=6, ge=1)
    validation: float = Field(default=0.05, ge=0, lt=0.5)


class PlanSettings(_Section):
    """Real and synthetic images per combination after filling, and the least number sampled for distances."""

    to: int = Field(default=200, ge=1)
    minimum: int = Field(default=100, ge=0)


class EvaluationSettings(_Section):
    """Fresh real patches per combination and per slide in each reference set, and images per distance."""

    patches: int = Field(default=200, ge=10)
    patches_per_slide: int = Field(default=10, ge=1)
    distance_images: int = Field(default=100, ge=3)
    encoder: str = "descriptor"


class StudySettings(_Section):
    """A study file. Every key is optional; unknown keys are refused."""

    title: str = "MeDi on the phantom cohort"
    seed: int = 0
    attribute: str = "site"
    cohort: CohortSettings = CohortSettings()
    holdout: HoldoutSettings = HoldoutSettings()
    network: NetworkSettings = NetworkSettings()
    training: Recipe = Recipe()
    plan: PlanSettings = PlanSettings()
    sampling: SamplerSettings = SamplerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _sizes_agree(self) -> "StudySettings":
        if self.network.size != self.cohort.size:
            raise MediError(f"network.size is {self.network.size}, cohort.size {self.cohort.size}: make them equal")
        return self


def read_study(path: Path) -> StudySettings:
    """The settings in a YAML study file; a wrong key or value is one error that names it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MediError(f"{path}: no such study file") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise MediError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    return parse_study({} if content is None else content, str(path))


def parse_study(content: object, name: str) -> StudySettings:
    """The settings in plain data that came from the file `name`."""
    try:
        return StudySettings.model_validate(content)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
        raise MediError(f"{name}: {'; '.join(problems)}") from error
    except MediError as error:
        raise MediError(f"{name}: {error}") from error


def embedded_study(quick: bool = False) -> StudySettings:
    """The study of `medi demo`, or its quick variant: the same road with a tiny budget."""
    name = "quick.yaml" if quick else "demo.yaml"
    text = (files("medi") / "studies" / name).read_text(encoding="utf-8")
    return parse_study(yaml.safe_load(text), name)
