"""How a result shows itself: as a table in a terminal, as HTML in a notebook."""

from typing import Any

import pandas as pd


class Shown:
    """A result with a title and a tidy table. Subclasses give `to_frame` and `title`, `figure` and `remarks` where due.

    `print(result)` shows the table; a notebook shows it as HTML.
    """

    @property
    def title(self) -> str:
        """One line above the table."""
        raise NotImplementedError

    @property
    def remarks(self) -> tuple[str, ...]:
        """Lines below the table: what must be known to read it. None by default."""
        return ()

    def to_frame(self) -> pd.DataFrame:
        """The figures that a person reads first, one row each."""
        raise NotImplementedError

    def figure(self) -> Any:
        """The result as a matplotlib figure."""
        raise NotImplementedError(f"{type(self).__name__} has no figure")

    def __str__(self) -> str:
        table = self.to_frame().to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.3f}")
        return "\n".join([self.title, table, *self.remarks])

    def _repr_html_(self) -> str:
        from html import escape

        table = self.to_frame().to_html(index=False, na_rep="-", float_format=lambda value: f"{value:.3f}")
        below = "".join(f"<p>{escape(line)}</p>" for line in self.remarks)
        return f"<div><p><b>{escape(self.title)}</b></p>{table}{below}</div>"
