"""What a hold-out is asked for: the rule, checked where it is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from medi.core.errors import MediError
from medi.core.settings import validated

Combination = tuple[str, ...]


@validated
@dataclass(frozen=True)
class Rule:
    """What is held out, and how the remaining patients are shared.

    kind `random`: a share `rate` of the non-empty combinations of `over`, such that every level of these columns
    keeps `min_patients` patients in training (all of them where it has fewer);
    `named`: the combinations in `held`; with one column in `over` these are whole levels (an unseen hospital);
    `sites`: one of `folds` parts of the levels of a column, the classes spread evenly over the parts;
    `published`: the split of Drexlin et al. 2025 over (site, gender, race).
    `test_seen` and `validation` are shares of the patients not held out, `reserve` a share of the training patches.
    `set_aside`: no patient is held out for a patch in a held-out combination; of the patients in `test_seen` (now a
    share of all) such patches are test_unseen, of the others they are set aside.

    >>> Rule(over=["class", "site"], rate=0.2).over
    ('class', 'site')
    >>> Rule(kind="sitess")
    Traceback (most recent call last):
    medi.core.errors.MediError: Rule: kind is 'sitess'; input should be 'random', 'named', 'sites' or 'published'
    """

    kind: Literal["random", "named", "sites", "published"] = "random"
    over: tuple[str, ...] = ()
    rate: float = 0.30
    min_patients: int = 1
    held: tuple[Combination, ...] = ()
    folds: int = 5
    fold: int = 0
    test_seen: float = 0.15
    validation: float = 0.10
    reserve: float = 0.02
    set_aside: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise MediError(f"the rate of held-out combinations must lie in [0, 1), not {self.rate}")
        if min(self.test_seen, self.validation, self.reserve) < 0 or self.test_seen + self.validation >= 1:
            raise MediError("test_seen, validation and reserve are shares >= 0, the first two together below 1")
        if self.min_patients < 1:
            raise MediError(f"every level must keep at least one patient in training, not {self.min_patients}")
        if self.kind == "named" and not self.held:
            raise MediError("a named hold-out needs the combinations or levels to hold out")
        if self.set_aside and (self.kind != "named" or not self.test_seen):
            raise MediError("patches are set aside for named combinations only, and a share of the patients must test")
        if self.kind == "sites" and not 0 <= self.fold < self.folds:
            raise MediError(f"fold {self.fold} is none of the {self.folds} folds 0 to {self.folds - 1}")

    @classmethod
    def levels(cls, column: str, levels: Sequence[str]) -> "Rule":
        """Hold out whole levels of one column, such as a hospital."""
        return cls("named", (column,), held=tuple((level,) for level in levels))

    @classmethod
    def published(cls, site: str = "site", gender: str = "gender", race: str = "race") -> "Rule":
        """The paper's split: two sides only, nothing set aside for validation or copy tests."""
        return cls("published", (site, gender, race), test_seen=0.0, validation=0.0, reserve=0.0)
