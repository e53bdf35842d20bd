"""The result tables of a run: their columns, their files, and how tables of version 0.1 become tables of today.

Tidy, a row per figure. `arm` is what was measured, `against` what it is subtracted from or compared with ("" where a
figure stands alone); columns of classes and attributes, "" for all, lie between those listed here.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from medi.core.errors import MediError
from medi.core.files import read_table, write_table

ARM, AGAINST = "arm", "against"
PROBE = "probe"  # what a probe was trained on: the patches of training, or real patches of every combination
TRAINING, CROSSED = "training", "crossed"
DIFFERENCE = "_difference"  # ends the name of a metric that is one arm's less another's
OLD_METRICS = {"obedience": "as_asked"}
OLD_ARMS = {"transfer": "translated"}
OLD_SEPARATOR = " - "  # of the two arms of a difference


@dataclass(frozen=True)
class ResultTable:
    """One kind of table: its file name, the columns of text and of numbers that every one has, its old file name."""

    name: str
    text: tuple[str, ...]
    numbers: tuple[str, ...]
    old_name: str = ""

    def check(self, table: pd.DataFrame, where: Path | str = "") -> pd.DataFrame:
        """The table, or a MediError that names lacking columns or text that is missing instead of empty."""
        place = f"{where}: " if where else ""
        if lacking := [column for column in (*self.text, *self.numbers) if column not in table.columns]:
            raise MediError(f"{place}the {self.name} table lacks the columns {', '.join(lacking)}")
        if holes := [column for column in self.text if table[column].isna().any()]:
            raise MediError(f"{place}the {self.name} table has missing text in {', '.join(holes)}; write ''")
        return table

    def write(self, folder: Path, table: pd.DataFrame) -> Path:
        """Check and write it into a folder of tables."""
        path = folder / f"{self.name}.parquet"
        return write_table(path, self.check(table, path))

    def read(self, folder: Path) -> pd.DataFrame:
        """The table of a folder, by its name or its old one, as a table of today; MediError where there is none."""
        path, old = (folder / f"{name}.parquet" for name in (self.name, self.old_name or self.name))
        return upgraded(read_table(old if old.exists() and not path.exists() else path))

    def exists(self, folder: Path) -> bool:
        """Whether a folder holds it, under its name or its old one."""
        return any((folder / f"{name}.parquet").exists() for name in (self.name, self.old_name or self.name))


INTERVAL, COUNTS = ("value", "low", "high"), ("n_real", "n_synthetic")
FIDELITY = ResultTable(
    "fidelity",
    ("metric", "encoder", "scope", ARM, AGAINST, "split", "reason"),
    (*INTERVAL, "p_value", "p_adjusted", *COUNTS),
)
CONTROL = ResultTable(
    "control", ("metric", "encoder", PROBE, ARM, AGAINST, "attribute", "scope", "split", "reason"), (*INTERVAL, *COUNTS)
)
CONFUSION = ResultTable("confusion", (PROBE, ARM, "attribute", "requested", "recognised"), ("n", "share"))
MEMORISATION = ResultTable("memorisation", ("metric", ARM, AGAINST, "reason"), (*INTERVAL, *COUNTS), "copying")
SUSPECTS = ResultTable(
    "suspects", (ARM, "sample_id", "neighbour", "neighbour_slide"), ("rank", "turn", "distance", "ratio")
)
UTILITY = ResultTable(
    "utility",
    ("metric", ARM, AGAINST, "split", "scope", "panel", "reason"),
    (*INTERVAL, *COUNTS, "n_slides", "n_patients", "n_train", "p_value", "p_adjusted"),
)
HEADS = ResultTable("heads", (*UTILITY.text, "head"), UTILITY.numbers)  # training sets under several heads
CURVES = ResultTable("curves", (ARM, AGAINST, "split", "metric", "x_name", "reason"), ("x", "seed", *INTERVAL))
ROBUSTNESS = ResultTable(  # of one encoder on one cohort, by itself: not a part of a study
    "robustness", ("metric", "encoder", ARM, "attribute", "reason"), ("value", "n_real", "n_slides", "n_patients")
)
RECOMMEND = ResultTable(  # remedies, judged on what training leaves out: a row each, the best first
    "recommend",
    ("set", "head", "needs", "reason"),
    (*INTERVAL, "gain", "gain_low", "gain_high", "lead", "lead_low", "lead_high", "true"),
)
SWEEP = ResultTable(  # HEADS at each strength of confounding, and nIPD: of one cohort, by itself
    "sweep", HEADS.text, (*HEADS.numbers, "strength", "cramers_v")
)
BY_ENCODER = ResultTable(  # rows of control and of utility, in the features of a study's further encoders
    "by_encoder",
    ("metric", "encoder", PROBE, ARM, AGAINST, "attribute", "split", "scope", "reason"),
    (*INTERVAL, *COUNTS),
)
_ALL = (FIDELITY, CONTROL, CONFUSION, MEMORISATION, SUSPECTS, UTILITY, HEADS, CURVES, BY_ENCODER)
RESULTS = {table.name: table for table in _ALL}
PLANNED = ("real", "n", "fill", "request", "count", "noise_id")  # columns of a plan and of its rows
STAMPS = ("sampler", "guidance", "seed")  # columns that say, beside `origin`, how an image was made
ADDED = (
    "task",
    "model",
    "source",
    "role",
    "floor",
    "axis",
    "hit",
    "transfer",
    "translated_from",
    "features",
    *("view", "pair", "predicted", "score"),
)  # to patches or figures
COUNTED = ("patches", "slides", "patients", "stratum")  # of an audit and of a hold-out
SCOPES = ("all", "combination", "class_mean", "combination_mean")  # a scope also is the name of an attribute
MEASURED = tuple(column for table in RESULTS.values() for column in (*table.text, *table.numbers))
# No attribute can be called so: all these stand beside columns of attributes in some table.
OWN_COLUMNS = frozenset([*PLANNED, *STAMPS, *ADDED, *COUNTED, *SCOPES, *MEASURED])


def upgraded(table: pd.DataFrame) -> pd.DataFrame:
    """A table as today's are written: two columns for the two arms of a difference, today's names, "" for no text.

    >>> import pandas as pd
    >>> old = pd.DataFrame({"metric": ["frechet_difference", "obedience"], "arm": ["cls - medi", "cls"]})
    >>> upgraded(old).to_dict("list")
    {'metric': ['frechet_difference', 'as_asked'], 'arm': ['cls', 'cls'], 'against': ['medi', '']}
    """
    texts = [name for name in table.columns if not pd.api.types.is_numeric_dtype(table[name])]
    table = table.assign(**{name: table[name].fillna("") for name in texts if table[name].isna().any()})
    if "attribute" in table and PROBE not in table:
        table.insert(0, PROBE, TRAINING)
    if ARM not in table or AGAINST in table:
        return table
    if "metric" not in table:
        return table
    pairs = table[ARM].where(table["metric"].str.endswith(DIFFERENCE), "").str.partition(OLD_SEPARATOR)
    parts = pairs if len(table) else pd.DataFrame({0: [], 2: []}, dtype=object)
    arms = parts[0].where(parts[2] != "", table[ARM]).replace(OLD_ARMS)
    table = table.assign(**{ARM: arms, "metric": table["metric"].replace(OLD_METRICS)})
    table.insert(list(table.columns).index(ARM) + 1, AGAINST, parts[2].replace(OLD_ARMS))
    return table


def of_main_probe(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the probe that counts, and those of no probe: the crossed one, where there is one (P14).

    A probe of biased training patches takes the attribute for the class; one of crossed patches cannot.
    """
    if PROBE not in table:
        return table
    main = CROSSED if (table[PROBE] == CROSSED).any() else TRAINING
    return table[table[PROBE].isin([main, ""])]
