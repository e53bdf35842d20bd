"""The verb app: a finished run, a model or a table in a browser."""

from pathlib import Path
from typing import Annotated

import typer

from medi.cli.help import add
from medi.cli.options import with_device
from medi.cli.terminal import say

LOOPBACK = "127.0.0.1"


def app(
    path: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run folder, trained model or table; none: drop a table.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; by default this machine alone.")] = LOOPBACK,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port.", show_default="the first free one from 7860 on")
    ] = None,
) -> None:
    """Play with a finished run in a browser.

    Samples, one patch at every site, a new site, the audit of a table. A model alone shows its samples. With a table,
    or with nothing, a table is audited. Nothing is fetched from elsewhere, and what you drop on the page is gone when
    the app ends.

    Example: medi app medi-demo
    """
    from medi.app.serve import LOOPBACK as local
    from medi.app.serve import run

    def ready(url: str) -> None:
        if host not in local:
            say(f"listening on {host}: whoever reaches this machine can use the app and see the patches of the run")
        say(f"open {url} in a browser; Ctrl-C ends the app")

    run(path, host, port, ready)


def register(verbs: typer.Typer) -> None:
    """Add the verb to the command `medi`."""
    add(verbs, with_device(app))
