"""The page: a head that says what this is, and the tabs."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import gradio as gr

from medi.app.handlers import ending
from medi.app.hospitals_tab import LevelTab, PatchTab
from medi.app.jobs import Jobs
from medi.app.pictures import escape
from medi.app.samples_tab import SamplesTab
from medi.app.table_tab import TableTab
from medi.app.workbench import Workbench

AUDIT = (
    "<header><h1>Audit a table</h1><p>How skewed a cohort is, and which column gives the class away. All of it runs on "
    "this machine.</p></header>"
)
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "Arial", "sans-serif")


def build(bench: Workbench) -> gr.Blocks:
    """The app of a run folder, not yet served."""
    jobs, crossed = Jobs(), bench.crossed
    with gr.Blocks(title="MeDi", analytics_enabled=False) as blocks:
        gr.HTML(_head(bench), elem_id="head", apply_default_css=False)
        with gr.Tabs():
            with gr.Tab("Samples"):
                samples = SamplesTab(bench, jobs)
            if bench.whole.pixels is not None:
                with gr.Tab(f"One patch, every {crossed}"):
                    PatchTab(bench, jobs)
                with gr.Tab(f"A new {crossed}"):
                    LevelTab(bench, jobs, samples)
            with gr.Tab("Audit a table"):
                TableTab(bench.scratch)
        blocks.unload(ending(jobs))
    return blocks


def build_audit(scratch: Path, table: Path | None = None) -> gr.Blocks:
    """The page that audits a table: the given one first, then any that is dropped."""
    with gr.Blocks(title="MeDi", analytics_enabled=False) as blocks:
        gr.HTML(AUDIT, elem_id="head", apply_default_css=False)
        TableTab(scratch, table)
    return blocks


def _head(bench: Workbench) -> str:
    found = "".join(f"<p>{escape(text)}</p>" for text in bench.verdict)
    report = '<p><a href="report" target="_blank" rel="noopener">Open the report</a></p>' if bench.report else ""
    verdict = f'<section class="verdict" aria-label="what the study found">{found}{report}</section>'
    alarms = "".join(f"<li>{escape(text)}</li>" for text in bench.alarms)
    return (
        f"<header><h1>{escape(bench.title)}</h1><p>Patches from a model that is told a class and a "
        f"{escape(bench.crossed)}, also where training had none of that combination. All of it runs on this machine."
        f"</p>{verdict if found or report else ''}{f'<ul class=alarms>{alarms}</ul>' if alarms else ''}</header>"
    )


def theme() -> Any:
    """System fonts, so that nothing is fetched; the report's colours, dark enough for text on them."""
    return gr.themes.Base(
        primary_hue=gr.themes.colors.blue, neutral_hue=gr.themes.colors.gray, font=FONTS, font_mono=("monospace",)
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        button_primary_background_fill="#00568c",
        button_primary_background_fill_dark="#00568c",
        button_primary_background_fill_hover="#00466f",
        button_primary_background_fill_hover_dark="#006bab",
        button_primary_text_color="#ffffff",
    )


def head() -> str:
    """Our stylesheet as it is: what gradio is given as `css` it rewrites."""
    return f"<style>{(files('medi.app') / 'app.css').read_text(encoding='utf-8')}</style>"
