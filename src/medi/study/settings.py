"""Study files: what a study is asked to do, checked before anything runs."""

import re
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from medi.cohort.image_fit import Mode
from medi.cohort.phantom import SIZES
from medi.core.errors import MediError, did_you_mean
from medi.core.outputs import shown
from medi.core.registry import load_extensions
from medi.models.network import NetworkSettings
from medi.sampling.sampler import SamplerSettings
from medi.training.classifier import ClassifierSettings
from medi.training.presets import preset
from medi.training.recipe import Recipe

PATHS = ("root", "clinical", "sites")  # options of the readers that name files
OLD_KEYS = {  # of version 0.1: sections and key, and the key of today
    ("training", "early"): "early_average",
    ("sampling", "guidance", "weak"): "autoguidance",
    ("evaluation", "transfer"): "translated",
}
LEARNS = 10_000  # training images below which a model cannot have learned anything
OLD_ARMS = {"free": "all"}


class _Strict(yaml.SafeLoader):
    """Plain data as YAML has them, without what YAML takes in silence: a key twice, and 010 for 8."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        names = [key.value for key, _ in node.value]
        if twice := [key for i, (key, _) in enumerate(node.value) if key.value in names[:i]]:
            problem = f"{twice[0].value!r} is there twice; keep one of them"
            raise yaml.constructor.ConstructorError(None, None, problem, twice[0].start_mark)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> Any:
        if re.fullmatch(r"[-+]?0[0-9_]+", node.value):
            problem = f"{node.value} is a number of base 8 in YAML; write it without the 0 in front, or in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return super().construct_yaml_int(node)


_Strict.add_constructor("tag:yaml.org,2002:int", _Strict.construct_yaml_int)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CohortSettings(_Section):
    """Patches of `size` pixels: of the embedded phantom, `patches` of them, or of the user's own `source`.

    source: a packed cohort, or anything the readers take with the options in `read` (those of `medi audit`), packed as
    mode and mpp say (those of `medi pack`); licence: of the source, for the report. Paths are relative to the study
    file that is run.
    """

    source: str = ""
    read: dict[str, Any] = Field(default_factory=dict)
    size: int = Field(default=32, ge=8)
    mode: Mode = "resize"
    mpp: float | None = None
    licence: str = ""
    patches: int = Field(default=4000, ge=200)

    @model_validator(mode="after")
    def _phantom_has_few_sizes(self) -> "CohortSettings":
        if not self.source and self.size not in SIZES:
            raise MediError(f"cohort.size: the phantom has {', '.join(map(str, SIZES))} px, not {self.size}")
        if not self.source and self.read:
            raise MediError("cohort.read: there is no cohort.source to read")
        return self


class HoldoutSettings(_Section):
    """The rule of the hold-out, as in `medi holdout`: a share of the combinations, named ones, or whole levels.

    min_patients: how many patients every class and level keeps in training (all where it has fewer). test_seen: the
    phantom needs none, its test patches are fresh ones.
    """

    kind: Literal["random", "named", "sites"] = "random"
    rate: float = Field(default=0.3, gt=0, lt=1)
    held: tuple[tuple[str, ...], ...] = ()
    folds: int = 5
    fold: int = 0
    set_aside: bool = False
    min_patients: int = Field(default=6, ge=1)
    test_seen: float = Field(default=0.0, ge=0, lt=1)
    validation: float = Field(default=0.05, ge=0, lt=0.5)
    reserve: float = Field(default=0.02, ge=0, lt=0.5)


class PlanSettings(_Section):
    """Real and synthetic images per combination after filling, and the least number sampled for distances."""

    to: int = Field(default=200, ge=1)
    minimum: int = Field(default=100, ge=0)


class EvaluationSettings(_Section):
    """Fresh real patches per combination and per slide in each reference set, images per distance, and encoders.

    encoders: the first decides; distances, what is as asked and the gain of the study's own sets are measured in each;
    "learned" is trained on the training patches, on so many draws of them (learned_images).
    arms: training sets to compare beside the study's own: all, none, or names; stains: those with other stains, which
    embed the training patches again each; translated: one of training patches that MeDi translates to the levels
    where the plan wants images; style: the same patches by an image-to-image translator that is trained on the training
    patches, on so many of them (style_images).
    """

    patches: int = Field(default=200, ge=10)
    patches_per_slide: int = Field(default=10, ge=1)
    distance_images: int = Field(default=100, ge=3)
    learned_images: int = Field(default=60_000, ge=64)
    arms: tuple[str, ...] = ("all",)
    stains: tuple[str, ...] = ()
    translated: bool = False
    style: bool = False
    style_images: int = Field(default=30_000, ge=1)
    encoders: tuple[str, ...] = Field(default=("colour-texture",), min_length=1)


class UtilitySettings(_Section):
    """heads: of the registry "head", under each of which every training set is compared; none by default.

    recommend: the heads among which training chooses a remedy without a generator, on real patches and those of
    `evaluation.stains`; all, none, or names. with_models: for so many inner hold-outs, at most 4, CLS and MeDi are also
    trained, by the settings of the study, and judged beside these; 0: they are not judged.
    """

    heads: tuple[str, ...] = ()
    recommend: tuple[str, ...] = ("all",)
    with_models: int = Field(default=0, ge=0, le=4)


class StudySettings(_Section):
    """A study file. Every key is optional; unknown keys are refused.

    preset: network and training of `medi train --preset`, which the sections of these names then change. extensions:
    modules, or Python files beside the study file, that register readers, encoders, networks, solvers, arms, heads or
    metrics (`medi.register`); other keys then name these. A file may also name its `base`, another study that it
    changes: see `read_study`. classifier: how the one is trained that guides both models, where
    `sampling.guidance` gives it a weight or candidates to choose from.
    """

    title: str = "MeDi on the phantom cohort"
    seed: int = 0
    attribute: str = "site"
    preset: str = ""
    extensions: tuple[str, ...] = ()
    cohort: CohortSettings = CohortSettings()
    holdout: HoldoutSettings = HoldoutSettings()
    network: NetworkSettings = NetworkSettings()
    training: Recipe = Recipe()
    plan: PlanSettings = PlanSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    sampling: SamplerSettings = SamplerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    utility: UtilitySettings = UtilitySettings()

    @property
    def note(self) -> str:
        """What must be said before anything else that this study finds, "" where there is nothing."""
        if self.training.images >= LEARNS:
            return ""
        return (
            f"with {self.training.images:,} training images the models cannot have learned anything: what this study "
            "finds shows the road, and says nothing about MeDi"
        )

    @model_validator(mode="before")
    @classmethod
    def _with_extensions_and_preset(cls, content: Any) -> Any:
        """Names are checked below, so what registers them comes first."""
        if isinstance(content, dict) and isinstance(named := content.get("extensions"), (list, tuple)):
            load_extensions([str(name) for name in named])
        if not isinstance(content, dict) or not content.get("preset"):
            return content
        chosen = preset(str(content["preset"]))
        sections = {"network": asdict(chosen.network), "training": asdict(chosen.recipe)}
        return content | {name: whole | (content.get(name) or {}) for name, whole in sections.items()}

    @model_validator(mode="after")
    def _sizes_agree(self) -> "StudySettings":
        if self.network.size != self.cohort.size:
            raise MediError(f"network.size is {self.network.size}, cohort.size {self.cohort.size}: make them equal")
        return self

    @model_validator(mode="after")
    def _guide_is_kept(self) -> "StudySettings":
        if self.sampling.guidance.autoguidance and not self.training.early_average:
            raise MediError(
                "sampling.guidance.autoguidance draws away from each model's early average: set training.early_average "
                "to the images after which it is kept, such as an eighth of training.images"
            )
        return self


def find_study(
    study: str | Path | StudySettings, source: str | Path | None = None, seed: int | None = None
) -> StudySettings:
    """The settings of a study file, or of one of ours by its name; `source` and `seed` replace what it says."""
    given = None if source is None else Path(source)
    if isinstance(study, StudySettings):
        settings = study.model_copy(update={"cohort": _beside(study.cohort, Path(), given)}) if given else study
    else:
        settings = read_study(Path(study) if Path(study).is_file() else _ours(str(study)), given)
    return settings if seed is None else settings.model_copy(update={"seed": seed})


def _ours(name: str) -> Path:
    """The file of a study that medi brings."""
    folder = Path(str(files("medi.study") / "studies"))
    known = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if name not in known:
        near = did_you_mean(Path(name).stem, known)
        raise MediError(f"{name}: no such study file; medi brings {', '.join(known)}{near}")
    return known[name]


def read_study(path: Path, source: Path | None = None) -> StudySettings:
    """The settings in a YAML study file; a wrong key or value is one error that names it.

    `source` replaces that of the file; the other files that its cohort names then lie beside it. `base` names a file
    beside this one or one of our studies, whose entries stand where this one says nothing else, section by section.
    """
    found = parse_study(*_content(path))
    return found.model_copy(update={"cohort": _beside(found.cohort, path.parent, source)})


def _content(path: Path, users: tuple[Path, ...] = ()) -> tuple[object, str]:
    """What a study file says, over what its base says, and the names of both; `users` are built on this file."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Strict)  # a SafeLoader, which makes plain data alone
    except FileNotFoundError as error:
        raise MediError(f"{path}: no such study file") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise MediError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    content = _of_today(content, path.parent)
    if not isinstance(content, dict) or "base" not in content:
        return {} if content is None else content, str(path)
    name = content.pop("base")
    if not isinstance(name, str) or not name:
        raise MediError(f"{path}: base: expected the name of a study or of a file beside this one, not {name!r}")
    base = path.parent / name
    try:
        base = base if base.is_file() else _ours(name)
    except MediError as error:
        raise MediError(f"{path}: base: {error}") from error
    users = (*users, path.resolve())
    if base.resolve() in users:
        raise MediError(f"{path}: base: {name} is built on this study itself")
    below, names = _content(base, users)
    if not isinstance(below, dict):
        raise MediError(f"{base}: holds no keys and cannot be the base of {path}")
    return _over(below, content), f"{path} (on {names})"


def _of_today(content: Any, folder: Path) -> Any:
    """What a file of this version or of 0.1 says, by the names of today; extensions are files beside it."""
    if not isinstance(content, dict):
        return content
    for (*sections, old), new in OLD_KEYS.items():
        found: Any = content
        for section in sections:
            found = found.get(section) if isinstance(found, dict) else None
        if isinstance(found, dict) and old in found:
            found[new] = found.pop(old)
    evaluation = content.get("evaluation")
    if isinstance(evaluation, dict) and isinstance(arms := evaluation.get("arms"), list):
        evaluation["arms"] = [OLD_ARMS.get(name, name) for name in arms]
    training = content.get("training")
    if isinstance(training, dict) and isinstance(name := training.get("autoencoder"), str) and ":" in name:
        kind, _, place = name.partition(":")
        training["autoencoder"] = f"{kind}:{(folder / Path(place).expanduser()).resolve()}"
    if isinstance(named := content.get("extensions"), list):
        content["extensions"] = [_beside_file(str(name), folder) for name in named]
    return content


def _beside_file(extension: str, folder: Path) -> str:
    """A file that a study file names, wherever the study is run; modules keep their names."""
    return str((folder / extension).resolve()) if extension.endswith(".py") else extension


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """The entries of both; of a section that both have, the entries of both. A preset replaces what it stands for."""
    if above.get("preset"):
        below = {key: value for key, value in below.items() if key not in ("network", "training")}
    sections = [key for key in above if isinstance(above[key], dict) and isinstance(below.get(key), dict)]
    return below | above | {key: below[key] | above[key] for key in sections}


def _beside(cohort: CohortSettings, folder: Path, source: Path | None) -> CohortSettings:
    """The same cohort with paths that start from the folder of the study file, or from that of the given source."""
    if source is None and not cohort.source:
        return cohort
    home = folder if source is None else source.parent
    read = {name: str(home / value) if name in PATHS else value for name, value in cohort.read.items()}
    return cohort.model_copy(update={"source": str(source or folder / cohort.source), "read": read})


def refuse_changed(settings: StudySettings, kept: Path) -> None:
    """Refuse to go on with other settings than those that a run folder keeps: each by its name, old and new."""
    try:
        before = yaml.safe_load(kept.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return
    now = settings.model_dump(mode="json")
    if changed := list(_differences(before, now)):
        raise MediError(
            f"{kept.parent}: was run with other settings: {'; '.join(changed)}; choose another --out, or --redo to run "
            "what they change again"
        )


def _differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """'training.images was 1600, is 3200 now', of entries that both have."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in (name for name in now if name in before):
            yield from _differences(before[name], now[name], f"{place}.{name}" if place else name)
    elif before != now and place:
        yield f"{place} was {shown(before)}, is {shown(now)} now"


def parse_study(content: object, name: str) -> StudySettings:
    """The settings in plain data that came from the file `name`."""
    try:
        return StudySettings.model_validate(content)
    except ValidationError as error:
        raise MediError(f"{name}: {'; '.join(map(_problem, error.errors()))}") from error
    except MediError as error:
        raise MediError(f"{name}: {error}") from error


def _problem(error: Any) -> str:
    """Which entry of a study file is wrong, and why; for a key that is not known the known ones."""
    where, place = ".".join(map(str, error["loc"])) or "the file", error["loc"]
    if error["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where}: {error['msg']}"
    section: Any = StudySettings
    for name in place[:-1]:
        section = get_type_hints(section)[name]
    known = [field.name for field in fields(section)] if is_dataclass(section) else list(section.model_fields)
    return f"{where}: no such key; known: {', '.join(known)}{did_you_mean(str(place[-1]), known)}"


def embedded_study(quick: bool = False) -> StudySettings:
    """The study of `medi demo`, or its quick variant: the same road with a tiny budget."""
    return read_study(_ours("quick" if quick else "demo"))
