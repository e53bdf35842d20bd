"""Which images to sample: a count for every combination, counted from training rows only (P5).

Each row says what it asks of the model: a combination it has seen, a new one of seen levels, or an unseen level.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from medi.cohort.combinations import Combinations, level_ids
from medi.cohort.combinations import over as columns_of
from medi.cohort.schema import Attribute, Schema, check_names
from medi.core import seeds
from medi.core.errors import MediError
from medi.core.files import check_format, read_json, read_table, safe_name, write_json, write_table
from medi.core.locks import holding
from medi.core.outputs import refuse_other
from medi.core.shares import apportion
from medi.core.showing import Shown

FORMAT_VERSION = 1
MOST = 2_000_000  # combinations
SEEN, NEW, UNSEEN = REQUESTS = ("seen combination", "new combination", "unseen level")

Combination = tuple[str, ...]
Positions = Int64[np.ndarray, " m"]


@dataclass(frozen=True)
class Plan(Shown):
    """`table` has a row per combination of the columns `over`.

    Beside the levels: real = training patches, n = images to sample, fill = how many of them (the first) enter the
    training set, request = one of REQUESTS. `pool` has the distinct training rows (class and attributes, with their
    `count`), from which the attributes outside `over` are drawn.

    >>> import medi
    >>> plan = medi.phantom(patches=400, seed=0).plan(to=20)
    >>> plan.title
    '32 combinations of class x site: 431 images to sample'
    >>> len(plan.expand(seed=0)) == len(plan)
    True
    """

    table: pd.DataFrame
    over: tuple[str, ...]
    schema: Schema
    pool: pd.DataFrame

    def __len__(self) -> int:
        return int(self.table["n"].sum())

    @property
    def title(self) -> str:
        """How many combinations there are, and how many images to sample."""
        return f"{len(self.table):,} combinations of {' x '.join(self.over)}: {len(self):,} images to sample"

    def to_frame(self) -> pd.DataFrame:
        """A row per combination: its levels, real training patches, images to sample, how many of them fill."""
        return self.table

    def expand(self, seed: int, prefix: str = "") -> pd.DataFrame:
        """One row per image: sample_id, class, the schema's attributes, noise_id, request, and fill (a flag).

        noise_id names the combination and the index within it, without the prefix: models that sample the same plan
        share their noise, and a larger plan repeats the images of a smaller one. Attributes outside `over` are drawn
        from the training rows of the combination, where it has none from those of its other levels than the class,
        where these never meet from all training rows; missing values stay missing.
        """
        asked = self.table[self.table["n"] > 0]
        if asked.empty:
            raise MediError("the plan asks for no image: every combination has enough; raise the target")
        which = np.repeat(np.arange(len(asked)), asked["n"])
        index = np.concatenate([np.arange(n) for n in asked["n"]])
        images = self.pool.drop(columns="count").iloc[self._drawn(asked, seed)].reset_index(drop=True)
        images = images.assign(**{name: asked[name].to_numpy()[which] for name in self.over})
        names = [".".join(map(safe_name, found)) for found in _tuples(asked, self.over)]
        noise_ids = [f"{names[place]}.{i:06d}" for place, i in zip(which, index)]
        images.insert(0, "sample_id", [prefix + noise_id for noise_id in noise_ids])
        fill = index < asked["fill"].to_numpy()[which]
        return images.assign(noise_id=noise_ids, request=asked["request"].to_numpy()[which], fill=fill)

    def _drawn(self, asked: pd.DataFrame, seed: int) -> Positions:
        """The pool row of every image, each combination with a stream of its own."""
        near, far = self.over, tuple(name for name in self.over if name != "class")
        same, other = _positions(self.pool, near), _positions(self.pool, far)
        weights = self.pool["count"].to_numpy(dtype=np.float64)
        everyone, drawn = np.arange(len(self.pool)), []
        for levels, n in zip(_tuples(asked, near), asked["n"]):
            distant = tuple(level for name, level in zip(near, levels) if name != "class")
            donors = same.get(levels, other.get(distant, everyone))
            uniform = seeds.generator("plan", seed, *near, *levels).random(n)
            drawn.append(donors[_draw(weights[donors], uniform)])
        return np.concatenate(drawn)

    @holding("folder")
    def save(self, folder: str | Path) -> Path:
        """Write plan.parquet, pool.parquet and, last, plan.json; refused is a folder with another plan."""
        folder = Path(folder)
        if (folder / "plan.json").exists():
            refuse_other(folder, "plan", Plan.load(folder)._content(), self._content())
        write_table(folder / "plan.parquet", self.table)
        write_table(folder / "pool.parquet", self.pool)
        head = {"format_version": FORMAT_VERSION, "over": self.over, "schema": self.schema.to_dict()}
        write_json(folder / "plan.json", head)
        return folder

    def _content(self) -> dict[str, Any]:
        table = self.table.astype("str").to_dict("records")
        return {"over": self.over, "images": len(self), "combinations": len(table), "rows": table}

    @classmethod
    def load(cls, folder: str | Path) -> "Plan":
        """The plan that `save` wrote to a folder."""
        folder = Path(folder)
        head = read_json(folder / "plan.json")
        check_format(head.get("format_version"), FORMAT_VERSION, folder / "plan.json")
        tables = read_table(folder / "plan.parquet"), read_table(folder / "pool.parquet")
        return cls(tables[0], tuple(head["over"]), Schema.from_dict(head["schema"]), tables[1])


def balance(
    table: pd.DataFrame,
    schema: Schema,
    over: Sequence[str] = (),
    to: int | Literal["largest"] = "largest",
    cap: int | None = None,
    minimum: int = 0,
    allow_unseen: bool = False,
) -> Plan:
    """Fill every combination of seen levels to the same count, real and synthetic images together.

    The count is `to`, or that of the largest combination, but at most `cap`. `minimum` samples at least so many
    images of every combination, for measuring; only the first `fill` of them enter the training set. With
    `allow_unseen` the combinations of levels that training never saw are filled as well.
    """
    _check_number("minimum", minimum, 0)
    for name, number in (("to", to), ("cap", cap)):
        if number not in (None, "largest"):
            _check_number(name, number, 1)
    real = _Training.of(table, schema, over)
    target = max(real.counts.values()) if to == "largest" else to
    target = target if cap is None else min(target, cap)
    levels = [a.levels for a in real.over] if allow_unseen else real.seen
    if (size := math.prod(map(len, levels))) > MOST:
        raise MediError(
            f"{size:,} combinations of {', '.join(real.names)} are too many to fill; group rare levels first"
        )
    fill = {found: max(target - real.counts.get(found, 0), 0) for found in product(*levels)}
    return real.plan({found: max(n, minimum) for found, n in fill.items()}, fill, allow_unseen)


def union(table: pd.DataFrame, schema: Schema, n: int, over: Sequence[str] = ()) -> Plan:
    """n images of every class at every combination of the other columns that any class has in training."""
    _check_number("n", n, 1)
    real = _Training.of(table, schema, over)
    if "class" not in real.names:
        raise MediError(f"a union of sites needs the class among its columns, not only {', '.join(real.names)}")
    place = real.names.index("class")
    sites = dict.fromkeys(found[:place] + found[place + 1 :] for found in real.counts)
    wanted = {(*site[:place], level, *site[place:]): n for level in real.seen[place] for site in sites}
    return real.plan(wanted)


def match(table: pd.DataFrame, schema: Schema, n: int | None = None, over: Sequence[str] = ()) -> Plan:
    """The real marginals: n images of each class, spread over its combinations as in training; None: as many as real.

    Without the class among the columns, n images in all.
    """
    real = _Training.of(table, schema, over)
    if n is None:
        return real.plan(dict(real.counts))
    _check_number("n", n, 1)
    counts = np.array(list(real.counts.values()), dtype=np.float64)
    group = np.array([key[real.names.index("class")] if "class" in real.names else "" for key in real.counts])
    share = np.zeros(len(counts), dtype=np.int64)
    for name in np.unique(group):
        share[group == name] = apportion(counts[group == name] / counts[group == name].sum(), np.array([n]))[0]
    return real.plan(dict(zip(real.counts, share.tolist())))


def combinations(
    table: pd.DataFrame,
    schema: Schema,
    wanted: Sequence[Combination],
    n: int,
    over: Sequence[str] = (),
    allow_unseen: bool = False,
) -> Plan:
    """n images of each of these combinations, for instance the held-out ones."""
    _check_number("n", n, 1)
    return _Training.of(table, schema, over).plan({tuple(found): n for found in wanted}, allow_unseen=allow_unseen)


def from_table(table: pd.DataFrame, schema: Schema, wanted: pd.DataFrame, allow_unseen: bool = False) -> Plan:
    """The counts in the column `n` of `wanted`; its other columns are the class and attributes."""
    columns = [name for name in wanted.columns if name != "n"]
    if "n" not in wanted.columns or not columns:
        raise MediError(f"a plan table needs a column n and at least one condition, not {', '.join(wanted.columns)}")
    counts, keys = _counts(wanted), _distinct(wanted, columns)
    real = _Training.of(table, schema, columns)
    return real.plan(dict(zip(keys, counts.tolist())), allow_unseen=allow_unseen)


def images(wanted: pd.DataFrame) -> pd.DataFrame:
    """One row per image of a table with a count `n` in each row (1 where it has no such column), as `expand` gives.

    A table that has `sample_id` holds a row per image already; its noise_id is that id where it has none.
    """
    if "sample_id" in wanted.columns:
        return wanted if "noise_id" in wanted.columns else wanted.assign(noise_id=wanted["sample_id"])
    counts = _counts(wanted) if "n" in wanted.columns else np.ones(len(wanted), dtype=np.int64)
    columns = [name for name in wanted.columns if name != "n"]
    keys = _distinct(wanted, columns)
    which, index = np.repeat(np.arange(len(wanted)), counts), np.concatenate([np.arange(n) for n in counts])
    names = [".".join(map(safe_name, key)) for key in keys]
    noise_ids = [f"{names[place]}.{i:06d}" for place, i in zip(which, index)]
    return wanted[columns].iloc[which].reset_index(drop=True).assign(sample_id=noise_ids, noise_id=noise_ids)


def with_siblings(rows: pd.DataFrame, attribute: str, count: int) -> pd.DataFrame:
    """The rows of `expand`, where the first `count` of each class and level of `attribute` have siblings.

    Siblings, one at each level, share their noise and everything but the attribute: what differs between their images
    is its doing.
    """
    number = rows.groupby(["class", attribute], sort=False).cumcount()
    chosen = number < count
    name = rows["class"] + "." + number.astype(str)
    shared = [column for column in rows.columns if column not in ("sample_id", "class", attribute, "request", "fill")]
    first = rows[chosen].groupby(name[chosen], sort=False)[shared].transform("first")
    return rows.assign(**{column: rows[column].where(~chosen, first[column]) for column in shared})


@dataclass(frozen=True)
class _Training:
    """What the training rows hold: counts per combination, the levels seen in each column, the rows to draw from."""

    schema: Schema
    over: tuple[Attribute, ...]
    counts: dict[Combination, int]
    seen: list[list[str]]
    pool: pd.DataFrame

    @classmethod
    def of(cls, table: pd.DataFrame, schema: Schema, over: Sequence[str]) -> "_Training":
        if "split" not in table.columns:
            raise MediError("the table has no column 'split'; design a hold-out first, or mark all rows as train")
        train = table[table["split"] == "train"]
        if not len(train):
            raise MediError("no patch is for training; hold out combinations first (`medi holdout`, Cohort.hold_out)")
        columns = columns_of(schema, over)
        check_names(a.name for a in schema.attributes)
        found = Combinations.of(train, columns)
        if not len(found):
            raise MediError(
                f"no training row has known levels of {', '.join(a.name for a in columns)}: nothing to plan"
            )
        counts = dict(zip(found.tuples(), np.bincount(found.index[found.index >= 0]).tolist()))
        pool = train.groupby([a.name for a in schema.conditions], sort=True, dropna=False, observed=True).size()
        return cls(schema, columns, counts, [_seen(train, a) for a in columns], pool.reset_index(name="count"))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(a.name for a in self.over)

    def plan(
        self, wanted: dict[Combination, int], fill: dict[Combination, int] | None = None, allow_unseen: bool = False
    ) -> Plan:
        """The plan for these counts; without `fill` all images enter the training set."""
        self._check(wanted)
        request = [self._request(found) for found in wanted]
        if UNSEEN in request and not allow_unseen:
            found = " x ".join(list(wanted)[request.index(UNSEEN)])
            raise MediError(f"{found}: training has no row of one of these levels; allow unseen levels or leave it out")
        table = pd.DataFrame(list(wanted), columns=list(self.names), dtype="str")
        real = np.array([self.counts.get(found, 0) for found in wanted], dtype=np.int64)
        n = np.array(list(wanted.values()), dtype=np.int64)
        filled = n if fill is None else np.array([fill[found] for found in wanted], dtype=np.int64)
        return Plan(table.assign(real=real, n=n, fill=filled, request=request), self.names, self.schema, self.pool)

    def _check(self, wanted: dict[Combination, int]) -> None:
        for found, n in wanted.items():
            if len(found) != len(self.over) or n < 0:
                raise MediError(f"{found}: {n} images is no request over {', '.join(self.names)}")
            for attribute, level in zip(self.over, found):
                if level not in attribute.levels:
                    known = ", ".join(attribute.levels)
                    raise MediError(f"{attribute.name} {level!r} is unknown; known levels: {known}")

    def _request(self, found: Combination) -> str:
        if found in self.counts:
            return SEEN
        return NEW if all(level in seen for level, seen in zip(found, self.seen)) else UNSEEN


def _check_number(name: str, value: object, least: int) -> None:
    """Refuse what is no whole number of images, or too small a one: it would be a plan of nothing."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        also = ", or 'largest'" if name == "to" else ""
        raise MediError(f"{name} = {value!r}: give a whole number of images, {least} or more{also}")


def _counts(wanted: pd.DataFrame) -> Int64[np.ndarray, " n"]:
    numbers = pd.to_numeric(wanted["n"], errors="coerce")
    if (broken := ~(numbers >= 0) | (numbers % 1 != 0)).any():
        row = int(np.argmax(broken.to_numpy()))
        raise MediError(f"n = {wanted['n'].iloc[row]!r} (row {row}) is no count of images")
    return numbers.to_numpy(dtype=np.int64)


def _distinct(wanted: pd.DataFrame, columns: Sequence[str]) -> list[Combination]:
    """The combinations of a plan table, each of which may stand there once."""
    keys = _tuples(wanted, columns)
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise MediError(f"{' x '.join(twice)} occurs twice in the plan table; give each combination one row")
    return keys


def _seen(train: pd.DataFrame, attribute: Attribute) -> list[str]:
    ids = np.unique(level_ids(train, attribute))
    return [attribute.levels[i] for i in ids[ids >= 0]]


def _positions(pool: pd.DataFrame, columns: tuple[str, ...]) -> dict[Combination, Positions]:
    """Where in the pool each combination of these columns stands."""
    if not columns:
        return {}
    found: dict[Combination, list[int]] = {}
    for row, key in enumerate(_tuples(pool, columns)):
        found.setdefault(key, []).append(row)
    return {key: np.array(rows, dtype=np.int64) for key, rows in found.items()}


def _tuples(table: pd.DataFrame, columns: Sequence[str]) -> list[Combination]:
    return list(zip(*(table[name].astype("str") for name in columns)))


def _draw(weights: Float64[np.ndarray, " m"], uniform: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Indices with probability proportional to weight, one per uniform number: the first k never depend on n."""
    edges = np.cumsum(weights)
    return np.minimum(np.searchsorted(edges, uniform * edges[-1], side="right"), len(weights) - 1).astype(np.int64)


def write_rows(folder: Path, rows: pd.DataFrame) -> Path:
    """Write the rows of a plan (`Plan.expand`) beside it; refused are other rows, which another seed gave."""
    path = folder / "rows.parquet"
    if path.exists() and read_table(path).to_csv(index=False) != rows.to_csv(index=False):
        raise MediError(f"{path}: holds the rows of another seed; choose another --out, or delete it")
    return write_table(path, rows)
