"""The stages before any training: the cohort, its audit, the hold-out, real patches beside it, and the plan."""

from pathlib import Path

import yaml

from medi.cohort.audit import Audit, audit, shortcut
from medi.cohort.holdout import design
from medi.cohort.plan import Plan, balance, with_siblings
from medi.cohort.rule import Rule
from medi.cohort.table import Cohort
from medi.core.files import write_table, write_text
from medi.core.progress import Advance
from medi.study.context import Study, reopen
from medi.study.settings import StudySettings

SIBLINGS = 12  # images of a combination that share their noise with the other levels of the attribute


def keep_settings(study: Study, path: Path) -> str:
    """The settings as a study file, where workers and later readers find them."""
    write_text(path, yaml.safe_dump(study.settings.model_dump(mode="json"), sort_keys=False))
    return f"{study.settings.title}, seed {study.settings.seed}"


def collect(study: Study, path: Path) -> str:
    """The cohort, packed."""
    cohort = study.source.collect(path, study.show)
    return f"{len(cohort):,} patches of {cohort.table['patient'].nunique():,} patients"


def audit_cohort(study: Study, path: Path) -> str:
    """How skewed the cohort is."""
    cohort = Cohort.load(study.folder / "cohort")
    found = audit(cohort.table, cohort.schema)
    found.save(path)
    return "; ".join(found.summary())


def audit_training(study: Study, path: Path) -> str:
    """How skewed the training patches are once the held-out combinations are gone: the shortcut that training meets."""
    found = study.split().audit(split="train")
    found.save(path)
    return "; ".join(shortcut(Audit.load(study.folder / "audit"), found))


def hold_out(study: Study, path: Path) -> str:
    """Splits without a patient in two, and the certificate."""
    cohort = Cohort.load(study.folder / "cohort")
    found = design(cohort.table, cohort.schema, rule_of(study.settings), study.settings.seed)
    found.save(path)
    for caution in found.cautions():
        study.show.line(f"warning: {caution}")
    patches = int((found.split == "train").sum())
    return f"{len(found.certificate['held_out'])} combinations held out, {patches:,} training patches left"


def rule_of(s: StudySettings) -> Rule:
    """The rule of the hold-out in a study's settings."""
    over = (s.attribute,) if s.holdout.kind == "sites" else ("class", s.attribute)
    return Rule(over=over, **s.holdout.model_dump())


def draw_references(study: Study, path: Path) -> str:
    """Real patches of all combinations, where any number of them can be drawn."""
    study.side_by_side("drawing", draw_reference, study.source.drawn)
    patches = sum(len(Cohort.load(path / name)) for name in study.source.drawn)
    return f"{patches:,} fresh patches of all combinations: {', '.join(study.source.drawn)}"


def draw_reference(folder: Path, name: str, advance: Advance) -> None:
    """Worker: fresh real patches of every combination, from slides that no other set shares."""
    study = reopen(folder)
    study.source.draw(name, advance).save(study.folder / "references" / name)


def plan_of(s: StudySettings, cohort: Cohort) -> Plan:
    """As many images of every combination as bring real and synthetic ones to the same count."""
    return balance(cohort.table, cohort.schema, ("class", s.attribute), to=s.plan.to, minimum=s.plan.minimum)


def plan_samples(study: Study, path: Path) -> str:
    """The plan, and a row for every image that both models are asked for."""
    s = study.settings
    plan = plan_of(s, study.split())
    plan.save(path)
    rows = with_siblings(plan.expand(s.seed), s.attribute, SIBLINGS)
    write_table(path / "rows.parquet", rows)
    return f"{len(rows):,} images per model, {int(rows['fill'].sum()):,} of them fill combinations"
