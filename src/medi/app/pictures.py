"""HTML of the app: grids of patches, the map of combinations, tables. Every text from outside is escaped here (P11)."""

import base64
import html
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from medi.app.jobs import Progress
from medi.core.files import safe_name
from medi.core.spreadsheets import csv_of
from medi.figures import mosaic
from medi.figures.patches import png_address

MAP_LEVELS = 40  # columns of the map; the lists beside it hold all
NOT_KNOWN = "not known"
ACROSS = 4  # patches in a row of a panel
WHITE = 255


def escape(text: object) -> str:
    """Text for HTML; braces and dollars too, which templates of the page could take for their own."""
    plain = html.escape(str(text))
    return plain.replace("{", "&#123;").replace("}", "&#125;").replace("$", "&#36;").replace("`", "&#96;")


def shown(level: object) -> str:
    """A level as people read it."""
    return escape(level) if str(level) else NOT_KNOWN


def name(conditions: Mapping[str, object]) -> str:
    """solid × Elm × group B × age not known: from the third on with the attribute's name."""
    parts = [
        shown(level) if i < 2 and str(level) else f"{escape(column)} {shown(level)}"
        for i, (column, level) in enumerate(conditions.items())
    ]
    return " × ".join(parts)


def picture(image: UInt8[np.ndarray, "h w 3"], alt: str) -> str:
    """alt: text that is escaped already."""
    return f'<img src="{png_address(image)}" alt="{alt}" title="{alt}">'


def grid(title: str, note: str, images: Sequence[UInt8[np.ndarray, "h w 3"]], alts: Sequence[str], room: int) -> str:
    """A panel of patches in rows of four, with blank places up to `room`; title, note and alts are escaped already."""
    items = [f"<li>{picture(image, alt)}</li>" for image, alt in zip(images, alts)]
    items += ['<li class="blank" aria-hidden="true"></li>'] * (room - len(items))
    return _panel(title, f"{note} {saved_picture(images, ACROSS, title)}", f'<ul class="patches">{"".join(items)}</ul>')


def empty(title: str, note: str, room: int) -> str:
    return grid(title, note, [], [], room)


def _panel(title: str, note: str, body: str) -> str:
    return f'<section class="panel"><h3>{title}</h3>{body}<p class="note">{note}</p></section>'


def strip(images: Sequence[UInt8[np.ndarray, "h w 3"]], captions: Sequence[str], save: bool = True) -> str:
    """Patches in a row, each with its caption (escaped already) under it. save: with a link that saves them."""
    figures = [f"<figure>{picture(i, c)}<figcaption>{c}</figcaption></figure>" for i, c in zip(images, captions)]
    below = f'<p class="note">{saved_picture(images, len(images), "patches")}</p>' if save else ""
    return f'<div class="strip">{"".join(figures)}</div>{below}'


def saved_picture(images: Sequence[UInt8[np.ndarray, "h w 3"]], across: int, title: str) -> str:
    """A link that saves patches as one picture, `across` in a row; nothing where there are none."""
    if not len(images):
        return ""
    rows = -(-len(images) // across)
    whole = np.full((rows * across, *images[0].shape), WHITE, dtype=np.uint8)
    whole[: len(images)] = np.stack(list(images))
    return _saved(f"{title}.png", png_address(mosaic(whole.reshape(rows, across, *images[0].shape))), "Save as PNG")


def saved_table(content: pd.DataFrame, title: str) -> str:
    """A link that saves a table as CSV; text that a spreadsheet would take for a formula is quoted."""
    text = base64.b64encode(csv_of(content).encode()).decode()
    return _saved(f"{title}.csv", f"data:text/csv;base64,{text}", "Save as CSV")


def _saved(name: str, address: str, what: str) -> str:
    stem, _, kind = name.rpartition(".")
    return f'<a class="save" download="{safe_name(stem) or "medi"}.{kind}" href="{address}">{what}</a>'


def counts_map(counts: pd.DataFrame, chosen: tuple[str, str] | None = None, caption: str = "") -> str:
    """Patches per class (rows) and level (columns) of `counts`, an integer table; empty combinations stand out.

    With `chosen` every combination is a button that holds its row and column as numbers; the chosen one is marked.
    """
    wide = counts.shape[1] > MAP_LEVELS
    kept = counts[counts.sum().nlargest(MAP_LEVELS).index.sort_values()] if wide else counts
    write = partial(_entry, top=max(int(kept.to_numpy().max(initial=0)), 1), chosen=chosen)
    head = "".join(f'<th scope="col">{shown(level)}</th>' for level in kept.columns)
    rows = [
        f'<tr><th scope="row">{shown(kept.index[i])}</th>' + "".join(_entries(kept, i, counts, write)) + "</tr>"
        for i in range(len(kept))
    ]
    left_out = f"<p>The {MAP_LEVELS} largest of {counts.shape[1]:,} columns are shown.</p>" if wide else ""
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="map of combinations"><table class="map"><caption>'
        f"{caption}</caption><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{left_out}"
        f'<p class="note">{saved_table(counts.rename_axis("class").reset_index(), "counts")}</p>'
    )


def _entries(kept: pd.DataFrame, i: int, counts: pd.DataFrame, write: Callable[..., str]) -> list[str]:
    places, row = counts.columns.get_indexer(kept.columns), kept.iloc[i].tolist()
    return [write(row[j], i, int(places[j]), kept.index[i], level) for j, level in enumerate(kept.columns)]


def _entry(count: int, row: int, column: int, class_: str, level: str, top: int, chosen: tuple[str, str] | None) -> str:
    """The darkness goes with the square root, so that rare combinations are told from empty ones."""
    share = (count / top) ** 0.5
    look = f'class="{"filled" if count else "none"}" style="--share:{share:.3f}"'
    if chosen is None:
        return f"<td {look}>{count:,}</td>"
    pressed = "true" if (class_, level) == chosen else "false"
    label = f"{shown(class_)} × {shown(level)}: {f'{count:,} training patches' if count else 'never seen in training'}"
    button = f'<button type="button" data-place="{row},{column}" aria-pressed="{pressed}" aria-label="{label}">'
    return f"<td {look}>{button}{f'{count:,}' if count else 'none'}</button></td>"


def table(content: pd.DataFrame, caption: str) -> str:
    """A small table, numbers to three digits; undefined ones are blank."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in content.columns)
    rows = ["".join(f"<td>{_figure(value)}</td>" for value in row) for row in content.itertuples(index=False)]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption)}"><table class="plain"><caption>'
        f"{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<p class="note">{saved_table(content, caption)}</p>'
    )


def _figure(value: object) -> str:
    if isinstance(value, float | np.floating):
        return "" if value != value else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int | np.integer) else escape(value)


def status(text: str) -> str:
    """A line about what is going on; `text` is escaped already."""
    return f'<p role="status" class="status">{text}</p>'


def progress(at: Progress) -> str:
    share = at.count / max(at.total, 1)
    bar = f'<progress value="{share:.3f}" max="1" aria-label="progress"></progress>'
    return f'<p role="status" class="status">{bar} {escape(at.what)}: {share:.0%}</p>'


def alarm(text: object) -> str:
    """Something that went wrong, or that a person must know."""
    return f'<p role="alert" class="alarm">{escape(text)}</p>'
