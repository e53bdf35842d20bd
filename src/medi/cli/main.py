"""The command line: one verb per file, thin: parse, call, print. A user's mistake is one line and exit code 2."""

import os
import sys
from difflib import get_close_matches
from typing import Annotated, Any, NoReturn

import typer

from medi import __version__
from medi.cli import (
    adapt,
    audit,
    classifier,
    demo,
    doctor,
    embed,
    export,
    fidelity,
    holdout,
    init,
    pack,
    plan,
    recommend,
    report,
    robustness,
    run,
    sample,
    slides,
    status,
    stress,
    train,
    transfer,
    utility,
)
from medi.cli import app as browser
from medi.cli.help import CONTEXT, Verbs
from medi.cli.terminal import log, printable, stopped_at
from medi.core.errors import MediError
from medi.core.stopping import Stopped, ended_by_sigterm

SIGNALLED = 128  # and the number of the signal: the exit code of a process that one ended
INTERRUPTED = SIGNALLED + 2  # what typer makes of Ctrl-C, by an exception or by its return value
USAGE_ERROR: Any = typer.BadParameter.__base__  # click's UsageError, wherever typer keeps it

app = typer.Typer(
    cls=Verbs,
    context_settings=CONTEXT,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> bool:
    if asked:
        print(f"medi {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """MeDi: audit a cohort of patches, generate the combinations it lacks, and measure what that buys."""


for verb in (
    *(demo, init, run, status, report, browser, slides, audit, holdout, pack, plan),
    *(train, classifier, sample, export, embed, fidelity, utility, recommend, robustness),
    *(adapt, transfer, stress, doctor),
):
    verb.register(app)


def main() -> None:
    """The `medi` command."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    log.path = None
    try:
        with ended_by_sigterm():
            code = app(prog_name="medi", standalone_mode=False) or 0
    except MediError as error:
        _stop(str(error))
    except USAGE_ERROR as error:
        _stop_usage(error)
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    if code == INTERRUPTED:
        code = Stopped()
    if isinstance(code, Stopped):
        _tell(str(code) if code.saved else stopped_at() or str(code))
        code = SIGNALLED + code.number
    sys.exit(code)


def _stop(message: str) -> NoReturn:
    _tell(printable(message))
    sys.exit(2)


def _tell(message: str) -> None:
    """A line on standard error, and in the log of the run."""
    print(f"medi: {message}", file=sys.stderr)
    log.add(f"medi: {message}", markup=False, soft_wrap=True)


def _stop_usage(error: Any) -> NoReturn:
    """A wrong option in one line; a verb without its arguments shows its help."""
    message, context = error.format_message(), error.ctx
    if context is None:
        _stop(message.rstrip("."))
    if message == context.get_help():
        print(message, file=sys.stderr)
        sys.exit(2)
    if name := getattr(error, "option_name", ""):
        message = _unknown(message.partition(" (")[0], name, _options(context.command))
    elif message.startswith("No such command"):
        message = _unknown(message.partition(".")[0], message.split("'")[1], context.command.list_commands(context))
    _stop(f"{message.rstrip('.')}; see {context.command_path} --help")


def _options(command: Any) -> list[str]:
    return [name for parameter in command.params for name in parameter.opts if name.startswith("--")]


def _unknown(message: str, name: str, known: list[str]) -> str:
    """The nearest known name where one is near, all of them otherwise."""
    near = get_close_matches(name, known, 2)
    return f"{message}; " + (f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}")
