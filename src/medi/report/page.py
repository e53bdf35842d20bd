"""One self-contained HTML page from the result tables of a run folder; stages that have not run are said so."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medi.core.errors import MediError
from medi.core.files import write_text
from medi.figures.names import DASH, arm_name, interval, known, number, of_arm
from medi.report.parts import Section, Table
from medi.report.remedies import headline_table, remedies
from medi.report.run import PARTS, Run, pick, read
from medi.report.sections.cohort import audit, holdout
from medi.report.sections.control import control
from medi.report.sections.fidelity import fidelity
from medi.report.sections.memorisation import memorisation
from medi.report.sections.samples import samples
from medi.report.sections.settings import settings
from medi.report.sections.training import training
from medi.report.sections.utility import utility
from medi.report.sentences import summary
from medi.report.verdict import Judged, judge, worst_class

HERE = Path(__file__).parent
RESULTS = (samples, fidelity, control, memorisation, utility)  # what came out
METHODS = (audit, holdout, training, settings)  # how it came about


@dataclass(frozen=True)
class Headline:
    """A number that stands out at the top."""

    name: str
    value: str
    beside: str


def build(run: Path, out: Path | None = None) -> Path:
    """Write report.html into `run`, or into the folder `out`, from the tables in `run` alone and return its path.

    Raises MediError where `run` holds no result at all, or one of a newer format, and where `out` holds another's.
    """
    if out is not None and any((out / part).exists() for part in PARTS) and not out.samefile(run):
        raise MediError(f"{out}: holds another result, whose page would be lost; choose another --out")
    found = read(run)
    sections = [section(found) for section in (*RESULTS, *METHODS)]
    return write_text((out or run) / "report.html", render(found, sections))


def render(run: Run, sections: Sequence[Section]) -> str:
    """The page of a study as HTML."""
    return fill(
        title=run.results.title or "MeDi study",
        asked=asked(run),
        cohort=cohort_line(run),
        sentences=summary(run) if run.results.finished else [],
        sections=sections,
        headlines=headlines(run),
        table=headline_table(remedies(run.of_task(run.tasks[0]).utility)) if run.tasks else None,
    )


def fill(
    title: str,
    asked: str,
    cohort: str,
    sentences: Sequence[str],
    sections: Sequence[Section],
    headlines: Sequence[Headline] = (),
    table: Table | None = None,
) -> str:
    """A page as HTML; every name from metadata passes through the template's escaping (P11)."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    script = (HERE / "report.js").read_text(encoding="utf-8")
    return environment.get_template("report.html").render(
        title=title,
        asked=asked,
        cohort=cohort,
        headlines=headlines,
        table=table,
        sentences=sentences,
        sections=sections,
        style=(HERE / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def asked(run: Run) -> str:
    begin = (
        f"A classifier learns from some combinations of class and {run.attribute}. It is tested on others that "
        "training never saw. "
    )
    if not {"cls", "medi"} <= set(run.sets):
        return f"{begin}Do generated images ({', '.join(map(arm_name, run.sets))}) fill this gap, as real ones would?"
    return (
        f"{begin}Do images generated from class and {run.attribute} (MeDi) fill this gap better than "
        "images generated from the class alone (CLS)? Do they fill it as well as real images would?"
    )


def cohort_line(run: Run) -> str:
    """'6,100 patches, 240 slides, 120 patients, 4 classes, 10 combinations held out, seed 0'."""
    size, held_out = run.audit.size, run.certificate.held_out
    parts = [f"{number(size[unit])} {unit}" for unit in ("patches", "slides", "patients", "classes") if unit in size]
    parts.append(f"{len(held_out)} combinations held out" if held_out else "")
    parts.append(f"seed {run.results.seed}" if run.results.seed is not None else "")
    return ", ".join(filter(None, parts))


def headlines(run: Run) -> list[Headline]:
    """The numbers that the study is about, for the first set of generated images."""
    if not run.results.finished:
        return []
    utility, control = run.of_task(run.tasks[0]).utility, run.main(run.control)
    judged = judge(utility, control, run.main(run.fidelity))
    accuracies = [_reached(judged[0], remedies(utility)), _gain(judged[0])] if judged else []
    arm = judged[0].arm if judged else next((name for name in ("medi", *run.sets) if name in run.sets), "medi")
    return [*accuracies, *_worst_class(control, arm), *_distance(run, arm)]


def _reached(found: Judged, rows: pd.DataFrame) -> Headline:
    real = rows[rows["arm"] == "real"].iloc[0]
    limits = interval(found.reached.low, found.reached.high).strip()
    beside = f"real only {number(real['value'])} · chance {number(found.chance)} · n = {number(real['n_real'])} patches"
    name = f"Mean recall over all combinations with {arm_name(found.arm)}"
    return Headline(name, number(found.reached.value), f"{limits} · {beside}" if limits else beside)


def _gain(found: Judged) -> Headline:
    """The gain over real images alone where it may be claimed; else that none is, and the difference beside it."""
    value = signed(found.gain.value) if found.gains else "none"
    beside = f"difference {found.gain} · over pure noise {found.over_noise}"
    return Headline("Gain over real images alone", value, beside)


def _worst_class(control: pd.DataFrame, arm: str) -> list[Headline]:
    found = worst_class(control, arm)
    if found is None:
        return []
    name, made, real = found
    beside = f"{name}, unseen combinations · real images {number(real.value)}"
    limits = interval(made.low, made.high).strip()
    return [Headline("Class as asked, worst class", number(made.value), f"{limits} · {beside}" if limits else beside)]


def _distance(run: Run, arm: str) -> list[Headline]:
    """The distance of the first set, beside CLS's and the floor; nothing where none is measured."""
    results, floor = run.results, run.results.distance("floor")
    if not known(results.distance(arm)):
        return []
    rows = pick(run.main(run.fidelity), metric="frechet", scope="combination_mean", split="unseen", arm=arm)
    beside = [
        f"CLS {number(results.distance('cls'))}" if "cls" in run.sets and arm != "cls" else "",
        f"real vs real {number(floor)}" if known(floor) else "",
        f"n = {number(rows['n_real'].iloc[0])}" if len(rows) else "",
    ]
    name = f"Fréchet distance of {of_arm(arm)} images, unseen combinations"
    return [Headline(name, number(results.distance(arm)), " · ".join(filter(None, beside)))]


def signed(value: float) -> str:
    """'+0.12', '−0.03', or a dash."""
    return f"{value:+.2f}".replace("-", "−") if known(value) else DASH
