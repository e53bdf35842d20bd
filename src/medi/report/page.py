"""One self-contained HTML page from the result tables of a run folder; stages that have not run are said so."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medi.core.files import write_text
from medi.figures.names import DASH, interval, known, number, share
from medi.report.parts import Section
from medi.report.run import Run, pick, read
from medi.report.sections.cohort import audit, holdout
from medi.report.sections.control import control
from medi.report.sections.copying import copying
from medi.report.sections.fidelity import fidelity
from medi.report.sections.samples import samples
from medi.report.sections.settings import settings
from medi.report.sections.training import training
from medi.report.sections.utility import utility
from medi.report.sentences import summary

HERE = Path(__file__).parent
RESULTS = (samples, fidelity, control, copying, utility)  # what came out
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
        title=str(run.results.get("title") or "MeDi study"),
        asked=asked(run),
        cohort=cohort_line(run),
        sentences=summary(run) if run.results else [],
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
        f"A classifier learns from some combinations of class and {run.attribute} and is tested on others, never seen. "
        f"Do images generated from class and {run.attribute} (MeDi) fill that hole better than images generated from "
        "the class alone (CLS), and as well as real ones would?"
    )


def cohort_line(run: Run) -> str:
    """'6,100 patches, 240 slides, 120 patients, 4 classes, 10 combinations held out, seed 0'."""
    size = run.audit.get("size", {})
    parts = [f"{number(size[unit])} {unit}" for unit in ("patches", "slides", "patients", "classes") if unit in size]
    parts.append(f"{len(run.held_out)} combinations held out" if run.held_out else "")
    parts.append(f"seed {run.results['seed']}" if "seed" in run.results else "")
    return ", ".join(filter(None, parts))


def headlines(run: Run) -> list[Headline]:
    """The three numbers that the study is about, all on unseen combinations."""
    accuracy, frechet = (run.results.get(key, {}).get("unseen", {}) for key in ("balanced_accuracy", "frechet"))
    if not run.results:
        return []
    two = {arm: f"{value:.2f}" if known(value) else DASH for arm, value in accuracy.items()}
    floor = f" · real vs real {number(frechet['floor'])}" if known(frechet.get("floor")) else ""
    oracle = f" · oracle {two['oracle']}" if "oracle" in two else ""
    return [
        Headline(
            "Fréchet distance of MeDi’s images", number(frechet.get("medi")), f"CLS {number(frechet.get('cls'))}{floor}"
        ),
        Headline(
            "Balanced accuracy with MeDi’s images",
            two.get("medi", DASH),
            f"real only {two.get('real', DASH)} · CLS {two.get('cls', DASH)}{oracle}",
        ),
        _gap(run) if "oracle" in two else _gain(run),
    ]


def _gap(run: Run) -> Headline:
    closed = share(run.results.get("gap_closed"))
    return Headline("Gap to the oracle closed by MeDi", closed, "0 % = real only · 100 % = oracle")


def _gain(run: Run) -> Headline:
    """Where no real images of unseen combinations can be had: the paired gain over real images alone."""
    utility = run.of_task(run.tasks[0]).utility
    rows = pick(utility, metric="balanced_accuracy_difference", arm="medi", against="real", split="unseen", scope="all")
    if rows.empty or not known(rows["value"].iloc[0]):
        return Headline("Gain over real images alone", DASH, "MeDi − real only")
    row = rows.iloc[0]
    return Headline(
        "Gain over real images alone",
        f"{row['value']:+.2f}".replace("-", "−"),
        f"MeDi − real only{interval(row['low'], row['high'])}",
    )
