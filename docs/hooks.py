"""What the documentation site generates from the code: the reference of commands and of Python, and its formulas.

Pages hold a marker such as `<!-- commands -->`, which is replaced when mkdocs reads the page. Formulas become MathML,
which browsers show without a script.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import typer.main
from latex2mathml.converter import convert

import medi
from medi.cli.main import app

CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
DISPLAY, INLINE = re.compile(r"\$\$(.+?)\$\$", re.DOTALL), re.compile(r"\$([^$\n]+?)\$")
ELSEWHERE = "benchmarks|src|tests|CHANGELOG|CONTRIBUTING"  # what pages link to and the site does not hold
OUTSIDE = re.compile(rf"\[([^\]]+)\]\((?:\.\./)+(?:{ELSEWHERE})[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Markers replaced, links to files outside the site as plain text, formulas as MathML."""
    for marker, write in MARKERS.items():
        markdown = markdown.replace(f"<!-- {marker} -->", write()) if f"<!-- {marker} -->" in markdown else markdown
    parts = CODE.split(OUTSIDE.sub(r"\1", markdown))
    return "".join(part if i % 2 else with_formulas(part) for i, part in enumerate(parts))


def with_formulas(text: str) -> str:
    """TeX between dollar signs as MathML."""
    text = DISPLAY.sub(lambda found: "\n" + convert(found[1].strip(), display="block") + "\n", text)
    return INLINE.sub(lambda found: convert(found[1]), text)


def commands() -> str:
    """A section for each verb: its help as the terminal shows it."""
    root: Any = typer.main.get_command(app)
    return "\n".join(section(name, help_) for name, help_ in helps(root, typer.Context(root, info_name="medi")))


def helps(group: Any, context: Any) -> Iterator[tuple[str, str]]:
    """Name and help of each verb of a group in the order of use, verbs of verbs after it.

    The first of a verb that is several is what the verb itself shows.
    """
    names = group.list_commands(context)
    for name in names[1:] if hasattr(group, "first") else names:
        verb = group.commands[name]
        inner = typer.Context(verb, info_name=name, parent=context, terminal_width=100, max_content_width=100)
        yield inner.command_path, verb.get_help(inner)
        if hasattr(verb, "commands"):
            yield from helps(verb, inner)


def section(name: str, help_: str) -> str:
    return f"## {name}\n\n```text\n{help_}\n```\n"


def python() -> str:
    """A section for each public name, from its docstring where it is defined."""
    return "\n".join(entry(name, *place.partition(":")[::2]) for name, place in sorted(medi._HOMES.items()))


def entry(name: str, module: str, own: str) -> str:
    return f"::: {module}.{own or name}\n    options:\n      heading: medi.{name}\n"


MARKERS: dict[str, Callable[[], str]] = {"commands": commands, "python": python}
