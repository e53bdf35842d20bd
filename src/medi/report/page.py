"""One self-contained HTML page from the result tables of a run folder; stages that have not run are said so."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medi.core.files import write_text
from medi.figures.names import DASH, interval, known, number, share
from medi.report.parts import Section
from medi.report.run import Results, Run, pick, read
from medi.report.sections.cohort import audit, holdout
from medi.report.sections.control import control
from medi.report.sections.fidelity import fidelity
from medi.report.sections.memorisation import memorisation
from medi.report.sections.samples import samples
from medi.report.sections.settings import settings
from medi.report.sections.training import training
from medi.report.sections.utility import utility
from medi.report.sentences import summary

HERE = Path(__file__).parent
RESULTS = (samples, fidelity, control, memorisation, utility)  # what came out
METHODS = (audit, holdout, training, settings)  # how it came about


@dataclass(frozen=True)
class Headline:
    """A number that stands out at the top."""

    name: str
    value: str
    beside: str


def build(run: Path) -> Path:
    """Write run/report.html from the tables in `run` alone and return its path.

    Raises MediError where `run` holds no result at all, or one of a newer format.
    """
    found = read(run)
    sections = [section(found) for section in (*RESULTS, *METHODS)]
    return write_text(run / "report.html", render(found, sections))


def render(run: Run, sections: Sequence[Section]) -> str:
    """The page of a study as HTML."""
    return fill(
        title=run.results.title or "MeDi study",
        asked=asked(run),
        cohort=cohort_line(run),
        sentences=summary(run) if run.results.finished else [],
        sections=sections,
        headlines=headlines(run),
    )


def fill(
    title: str,
    asked: str,
    cohort: str,
    sentences: Sequence[str],
    sections: Sequence[Section],
    headlines: Sequence[Headline] = (),
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
        sentences=sentences,
        sections=sections,
        style=(HERE / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def asked(run: Run) -> str:
    return (
        f"A classifier learns from some combinations of class and {run.attribute}. It is tested on others that "
        f"training never saw. Do images generated from class and {run.attribute} (MeDi) fill this gap better than "
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
    """The three numbers that the study is about, all on unseen combinations."""
    if not run.results.finished:
        return []
    compared = "oracle" in run.results.balanced_accuracy.get("unseen", {})
    return [_distance(run.results), _accuracy(run.results), _gap(run.results) if compared else _gain(run)]


def _distance(results: Results) -> Headline:
    floor = results.distance("floor")
    beside = f"CLS {number(results.distance('cls'))}" + (f" · real vs real {number(floor)}" if known(floor) else "")
    return Headline("Fréchet distance of MeDi’s images", number(results.distance("medi")), beside)


def _accuracy(results: Results) -> Headline:
    beside = f"real only {_two(results, 'real')} · CLS {_two(results, 'cls')}"
    beside += f" · oracle {_two(results, 'oracle')}" if "oracle" in results.balanced_accuracy.get("unseen", {}) else ""
    return Headline("Balanced accuracy with MeDi’s images", _two(results, "medi"), beside)


def _two(results: Results, arm: str) -> str:
    """Balanced accuracy to two decimals."""
    value = results.accuracy(arm)
    return f"{value:.2f}" if known(value) else DASH


def _gap(results: Results) -> Headline:
    closed = share(results.gap_closed)
    return Headline("Gap to the oracle closed by MeDi", closed, "0 % = real only · 100 % = oracle")


def _gain(run: Run) -> Headline:
    """Where no real images of unseen combinations can be had: the paired gain over real images alone."""
    title, utility = "Gain over real images alone", run.of_task(run.tasks[0]).utility
    rows = pick(utility, metric="balanced_accuracy_difference", arm="medi", against="real", split="unseen", scope="all")
    if rows.empty or not known(rows["value"].iloc[0]):
        return Headline(title, DASH, "MeDi − real only")
    row = rows.iloc[0]
    gained = f"{row['value']:+.2f}".replace("-", "−")
    return Headline(title, gained, f"MeDi − real only{interval(row['low'], row['high'])}")
