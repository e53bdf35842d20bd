"""Tasks: which classes a probe tells apart. The paper's are named; any choice of classes is one too."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from medi.core.errors import MediError
from medi.core.lists import split_commas

TASKS: dict[str, tuple[str, ...]] = {
    "nsclc": ("LUAD", "LUSC"),
    "uterine": ("UCEC", "UCS"),
    "kidney": ("KIRC", "KIRP", "KICH"),
}


@dataclass(frozen=True)
class Task:
    """A name and the classes to tell apart; none means all."""

    name: str
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: str) -> "Task":
        """ "nsclc", "all", or classes with commas between them: "LUAD,LUSC"; see `split_commas`."""
        if given == "all":
            return cls("all")
        if given in TASKS:
            return cls(given, TASKS[given])
        classes = tuple(dict.fromkeys(split_commas([given])))
        if len(classes) < 2:
            raise MediError(f"task {given!r}: expected all, {', '.join(TASKS)}, or two classes or more, as in A,B")
        return cls(given, classes)

    def rows(self, table: pd.DataFrame) -> Bool[np.ndarray, " n"]:
        """Which rows are of the task's classes."""
        if not self.classes:
            return np.ones(len(table), dtype=bool)
        return table["class"].isin(self.classes).to_numpy(dtype=bool)

    def check(self, table: pd.DataFrame, where: str) -> None:
        """An error that names the classes which these rows lack."""
        if lacking := [name for name in self.classes if not (table["class"] == name).any()]:
            known = ", ".join(sorted(set(table["class"])))
            raise MediError(f"task {self.name}: {where} has no patch of {', '.join(lacking)}; its classes: {known}")
