"""Help as plain text at 80 columns: verbs in groups and in the order of use, options under headings."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from medi.core.locks import whole
from medi.core.stopping import Stopped

HELP = ("-h", "--help")
CONTEXT: dict[str, Any] = {"help_option_names": list(HELP)}
EXAMPLE = "Example: "  # begins the last line of a verb's docstring; it is shown unbroken, ready to paste
GROUPS = {  # the verbs in the order of use
    "A whole study": ("demo", "init", "run", "status", "report", "app"),
    "Your cohort": ("slides", "audit", "holdout", "pack"),
    "Models and images": ("train", "classifier", "plan", "sample", "export"),
    "Measures": ("embed", "fidelity", "utility", "recommend", "robustness"),
    "A new hospital": ("adapt", "transfer", "stress"),
    "Upkeep": ("doctor", "clean"),
}
Row = tuple[str, str]  # a name and what it means


class Verb(TyperCommand):
    """A verb: its options stand under their headings, its example at the end of the text.

    While it works it holds the folder that it writes; one that takes --shard lets the library hold its part alone.
    """

    def invoke(self, ctx: Any) -> Any:
        given = ctx.params
        is_folder = any(option.name == "out" and option.metavar == "FOLDER" for option in self.params)
        if (
            not is_folder
            or not given["out"]
            or given.get("dry_run")
            or "shard" in given
            or Path(given["out"]).is_file()
        ):
            return super().invoke(ctx)
        with whole(Path(given["out"])):
            return super().invoke(ctx)

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        text, mark, example = (self.help or "").rpartition(EXAMPLE)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(text.strip())
        formatter.write(f"\n  {mark}{example}\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_sections(formatter, list(_parameters(self, ctx)))


class Verbs(TyperGroup):
    """The command `medi`: its verbs by GROUPS."""

    def invoke(self, ctx: Any) -> Any:
        """A verb that a signal stopped gives `Stopped`, in place of the exception that typer would make a number of."""
        try:
            return super().invoke(ctx)
        except Stopped as stopped:
            return stopped

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for names in GROUPS.values() for name in names if name in self.commands]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        titles = {name: title for title, names in GROUPS.items() for name in names}
        rows = _commands(self, self.list_commands(ctx), formatter)
        write_sections(formatter, [(titles[name], (name, text)) for name, text in rows])


class DefaultVerb(TyperGroup):
    """A verb that is several: `medi holdout SOURCE` is the first of them, `medi holdout verify SOURCE` another.

    Only the name of another in the first place means that one. Help shows the first and lists the others.
    """

    @property
    def first(self) -> Any:
        return next(iter(self.commands.values()))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands:
            args = ["--help"] if set(HELP) & set(args) else [self.first.name, *args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self.first.format_help(self._context(ctx), formatter)
        others = list(self.commands)[1:]
        rows = [(f"{ctx.command_path} {name}", text) for name, text in _commands(self, others, formatter)]
        write_sections(formatter, [("Also", row) for row in rows])

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        own = [found for found in super().shell_complete(ctx, incomplete) if not found.value.startswith("-")]
        return own + self.first.shell_complete(self._context(ctx), incomplete)

    def _context(self, ctx: Any) -> Any:
        """The context of the first verb under the name of the whole."""
        return self.first.context_class(self.first, info_name=ctx.info_name, parent=ctx.parent)


def write_sections(formatter: Any, rows: Sequence[tuple[str, Row]]) -> None:
    """Rows under their titles; a title stands where its first row is."""
    for title in dict.fromkeys(title for title, _ in rows):
        with formatter.section(title):
            formatter.write_dl([row for found, row in rows if found == title])


def add(app: typer.Typer, verb: Callable[..., None]) -> None:
    """Add a verb to the command `medi`, or to a verb that is several."""
    app.command(cls=Verb)(verb)


def add_several(app: typer.Typer, name: str, verbs: Sequence[Callable[..., None]]) -> None:
    """Add a verb that is several; the first is meant where none is named."""
    group = typer.Typer(cls=DefaultVerb, no_args_is_help=True, rich_markup_mode=None)
    for verb in verbs:
        add(group, verb)
    app.add_typer(group, name=name, short_help=(verbs[0].__doc__ or "").partition("\n")[0])


def _parameters(command: Any, ctx: Any) -> Iterator[tuple[str, Row]]:
    for parameter in command.get_params(ctx):
        if record := parameter.get_help_record(ctx):
            usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
            yield getattr(parameter, "rich_help_panel", None) or usual, record


def _commands(group: Any, names: Sequence[str], formatter: Any) -> list[Row]:
    """Each with the first sentence of its help, as far as it fits on a line."""
    limit = formatter.width - 6 - max(map(len, group.commands), default=0)
    return [(name, group.commands[name].get_short_help_str(limit)) for name in names]
