"""Starts the app: on this machine only unless told otherwise, offline, with a folder of its own that goes away."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medi.core.errors import MediError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OFFLINE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_ALLOWED_PATHS": "",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def served(folder: Path, host: str = LOOPBACK[0], port: int | None = None) -> Iterator[str]:
    """The app of a run folder at the URL that this gives, until the block ends.

    Uploads and adapted models lie in a hidden folder inside the run folder, which is deleted at the end. Pictures are
    part of the page: no file is served but uploads to who uploaded them, under names that nobody can guess.
    """
    os.environ |= OFFLINE
    gradio = _gradio()
    from medi.app import page
    from medi.app.workbench import Workbench

    with _scratch(folder) as scratch:
        os.environ["GRADIO_TEMP_DIR"] = str(scratch / "uploads")
        blocks = page.build(Workbench(folder, scratch))
        options = _options(gradio, page) | {"server_name": host, "server_port": port}
        try:
            _, url, _ = blocks.queue().launch(**options)
        except OSError as error:
            raise MediError(f"{host} port {port or 'from 7860 on'}: {error}; choose another --port") from error
        try:
            yield url
        finally:
            blocks.close(verbose=False)


def run(folder: Path, host: str, port: int | None, ready: Any) -> None:
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
def _scratch(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise MediError(f"{folder}: no such run folder; `medi demo --out {folder}` makes one")
    if not os.access(folder, os.W_OK):
        raise MediError(f"{folder}: is not writable; copy the run to a folder of your own")
    with TemporaryDirectory(prefix=".app-", dir=folder.resolve(), ignore_cleanup_errors=True) as path:
        yield Path(path)
