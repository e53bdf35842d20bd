"""Starts the app: on this machine only unless told otherwise, offline, with a folder of its own that goes away."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medi.cohort.readers.forms import PARQUET, SPREADSHEETS, TEXT
from medi.core.errors import MediError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TABLES = (*TEXT, *PARQUET, *SPREADSHEETS)
OFFLINE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_ALLOWED_PATHS": "",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def served(path: Path | None = None, host: str = LOOPBACK[0], port: int | None = None) -> Iterator[str]:
    """The app of a run folder, of a model, of a table or of nothing, at the URL that this gives, until the block ends.

    Uploads and adapted models lie in a hidden folder inside the run folder (for a model or a table a temporary one),
    which is deleted at the end. Pictures are part of the page: no file is served but the run's report, and uploads to
    who uploaded them, under names that nobody can guess.
    """
    os.environ |= OFFLINE
    gradio = _gradio()
    from medi.app import page

    with _scratch(path) as scratch:
        os.environ["GRADIO_TEMP_DIR"] = str(scratch / "uploads")
        blocks, report = _blocks(path, scratch)
        options = _options(gradio, page) | {"server_name": host, "server_port": port}
        try:
            app, url, _ = blocks.queue().launch(**options)
        except OSError as error:
            raise MediError(f"{host} port {port or 'from 7860 on'}: {error}; choose another --port") from error
        if report is not None:
            _serve_report(app, report)
        try:
            yield url
        finally:
            blocks.close(verbose=False)


def _blocks(path: Path | None, scratch: Path) -> tuple[Any, Path | None]:
    """The page that fits what was named, and the report that it links."""
    from medi.app import page
    from medi.app.lone_model import LoneModel
    from medi.app.workbench import MODEL_FILE, Workbench

    if path is None or is_table(path):
        return page.build_audit(scratch, path), None
    is_model = path.is_file() or ((path / MODEL_FILE).is_file() and not (path / "run.json").exists())
    bench = LoneModel(path, scratch) if is_model else Workbench(path, scratch)
    return page.build(bench), bench.report


def _serve_report(app: Any, report: Path) -> None:
    """The run's page under a name of its own; no other file can be asked for."""
    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    def page(request: Any) -> HTMLResponse:
        return HTMLResponse(report.read_text(encoding="utf-8"))

    app.router.routes.insert(0, Route("/report", page))


def is_table(path: Path) -> bool:
    """Whether a path is named like a table."""
    return path.suffix.lower() in TABLES


def run(folder: Path | None, host: str, port: int | None, ready: Any) -> None:
    """Serve until Ctrl-C or SIGTERM; `ready(url)` is called once the page is there."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with served(folder, host, port) as url:
        ready(url)
        try:
            signal.pause()
        except KeyboardInterrupt:
            return


def _options(gradio: Any, page: Any) -> dict[str, Any]:
    return {
        "share": False,
        "inbrowser": False,
        "quiet": True,
        "prevent_thread_lock": True,
        "ssr_mode": False,
        "mcp_server": False,
        "pwa": False,
        "run_history": False,
        "enable_monitoring": False,
        "show_error": False,
        "footer_links": [],
        "allowed_paths": [],
        "max_file_size": "200mb",
        "theme": page.theme(),
        "head": page.head(),
    }


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise MediError("the app needs gradio: pip install 'medi-histo[app]'") from error
    return gradio


@contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    if folder is None or folder.is_file() or (folder / "model.safetensors").is_file():
        with TemporaryDirectory(prefix="medi-app-", ignore_cleanup_errors=True) as path:
            yield Path(path)
        return
    if is_table(folder):
        raise MediError(f"{folder}: no such table")
    if not folder.is_dir():
        raise MediError(f"{folder}: no such run folder; `medi demo --out {folder}` makes one")
    if not os.access(folder, os.W_OK):
        raise MediError(f"{folder}: is not writable; copy the run to a folder of your own")
    with TemporaryDirectory(prefix=".app-", dir=folder.resolve(), ignore_cleanup_errors=True) as path:
        yield Path(path)
