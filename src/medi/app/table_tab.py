"""The last tab: the audit of a metadata table that someone drops on the page."""

from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from medi.app import pictures
from medi.app.handlers import PLAIN, QUIET
from medi.app.pictures import escape
from medi.app.tables import Columns, TableAudit, audit_table, read_table_of
from medi.cohort.readers.forms import PARQUET, SPREADSHEETS, TEXT
from medi.core.errors import MediError

GUESS = "guess"
READABLE = {
    "cramers_v": "Cramér's V",
    "cramers_v_corrected": "V, corrected",
    "nmi": "mutual information",
    "determination": "1 - H(class | it) / H(class)",
    "balanced_accuracy": "balanced accuracy",
}


class TableTab:
    """A file, three lists of columns, and the audit; the table stays in the memory of this page alone."""

    def __init__(self, scratch: Path, table: Path | None = None) -> None:
        """table: audited from the start; it stays where it is."""
        self.scratch = scratch
        kept = None if table is None else (table.name, read_table_of(table))
        columns = [] if kept is None else list(map(str, kept[1].columns))
        is_there = kept is not None
        self.rows: Any = gr.State(kept)
        with gr.Row(elem_classes="workspace"):
            with gr.Column(scale=1, min_width=260, elem_classes="controls"):
                self.file = gr.File(
                    label="Metadata table",
                    file_types=[*TEXT, *PARQUET, *SPREADSHEETS],
                    type="filepath",
                    elem_id="table",
                    height=140,
                )
                one: dict[str, Any] = {"choices": [GUESS, *columns], "value": GUESS, "visible": is_there}
                self.label = gr.Dropdown(**one, label="Column of the class", elem_id="table-class")
                self.patient = gr.Dropdown(**one, label="Column of the patient")
                self.attributes = gr.Dropdown(columns, multiselect=True, label="Attributes", visible=is_there)
            with gr.Column(scale=4, min_width=320):
                self.found = gr.HTML(
                    self._audit(*kept, Columns())
                    if kept is not None
                    else pictures.status(
                        "Drop a table (CSV, TSV, Parquet, .xlsx, .ods) with a row per patch or slide: which "
                        "combinations are missing, and which column gives the class away? Nothing is kept, and no "
                        "images are needed."
                    ),
                    elem_id="audit",
                    **PLAIN,
                )
        lists = [self.label, self.patient, self.attributes]
        self.file.upload(self.receive, self.file, [self.rows, *lists, self.found], **QUIET)
        for listed in lists:
            listed.input(self.again, [self.rows, *lists], self.found, **QUIET)

    def receive(self, file: str) -> list[Any]:
        """Read the table, forget the file, and audit it by guesses."""
        path = Path(file)
        try:
            rows = read_table_of(path)
        except MediError as error:
            return [None, *[gr.update(visible=False)] * 3, pictures.alarm(_named(error, path))]
        finally:
            path.unlink(missing_ok=True)
        columns = list(map(str, rows.columns))
        lists = [gr.update(choices=[GUESS, *columns], value=GUESS, visible=True) for _ in range(2)]
        lists.append(gr.update(choices=columns, value=[], visible=True))
        return [(path.name, rows), *lists, self._audit(path.name, rows, Columns())]

    def again(self, kept: tuple[str, pd.DataFrame] | None, label: str, patient: str, attributes: list[str]) -> str:
        if kept is None:
            return pictures.alarm("no table yet: drop one first")
        chosen = Columns(_guess(label), _guess(patient), attributes or None)
        return self._audit(*kept, chosen)

    def _audit(self, name: str, rows: pd.DataFrame, columns: Columns) -> str:
        try:
            return _page(name, audit_table(name, rows, self.scratch, columns))
        except MediError as error:
            return pictures.alarm(_named(error, self.scratch))


def _guess(value: str | None) -> str | None:
    return None if value in (None, GUESS) else value


def _named(error: MediError, path: Path) -> str:
    """The message without the folder that the upload passed through."""
    return str(error).replace(f"{path.parent}/", "")


def _page(name: str, found: TableAudit) -> str:
    audit = found.audit
    lines = [line for line in audit.summary() if not line.startswith("ALARM")]
    parts = [pictures.status(f"<strong>{escape(name)}</strong>: {escape(lines[0])}")]
    parts += [pictures.alarm(text) for text in audit.alarms]
    if (counts := found.counts()) is not None:
        caption = f"Patches per class and {escape(counts[0])}; hollow combinations have none"
        parts.append(pictures.counts_map(counts[1], None, caption))
    patches = audit.association[audit.association["unit"] == "patch"].drop(columns=["unit", "single_class"])
    if len(patches):
        parts.append(pictures.table(_readable(patches), "What each attribute tells about the class"))
    if len(audit.ceiling):
        parts.append(pictures.table(_readable(audit.ceiling), "The class from the metadata alone, without the image"))
    listed = "".join(f"<li>{escape(line)}</li>" for line in (*lines[1:], *found.notes))
    return "".join(parts) + f'<h3>Details</h3><ul class="notes">{listed}</ul>'


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """Names without underscores; reasons only where there are any."""
    shown = table if (table["reason"] != "").any() else table.drop(columns="reason")
    return shown.rename(columns=READABLE)
