"""How numbers, sets, metrics and splits are written, in figures and in reports alike. Undefined is a dash (P7)."""

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeGuard

import pandas as pd

from medi.core.numbers import digits
from medi.core.set_names import GAP, parts_of

DASH = "–"
ARMS = {
    "real": "real only",
    "floor": "real-vs-real floor",
    "round_trip": "autoencoder’s round trip",
    "cls": "CLS",
    "medi": "MeDi",
    "oracle": "oracle",
}
OTHER_ARMS = {
    "combination_weights": "class × attribute weights",
    "group_dro": "GroupDRO",
    "dfr": "DFR",
    "coral": "CORAL",
    "mixup": "Mixup",
    "lisa": "LISA",
    "macenko": "Macenko normalisation",
    "reinhard": "Reinhard normalisation",
    "hed_jitter": "HED jitter",
    "randstainna": "RandStainNA",
    "translated": "translated patches",
    "style": "style transfer",
    "pure_noise": "pure noise",
    "every_set": "several training sets",
    "cls_only": "CLS only",
    "medi_only": "MeDi only",
    "medi_filtered": "filtered MeDi",
}
HEADS = {
    "logistic": "logistic",
    "logistic_weighted": "logistic, class × attribute weights",
    "two_way": "two-way",
    "leace": "LEACE",
    "leace_within": "LEACE within classes",
    "combat": "ComBat",
    "crm": "CRM",
    "logit_adjustment": "logit adjustment",
    "adversary": "linear adversary",
    "soft_vote": "soft vote",
    "chosen": "chosen by training",
}
GENERATORS = ("cls", "medi", "translated", "style")  # how the names of arms begin that hold generated images
SPLITS = ("all", "unseen", "seen")  # in the order in which they are shown
METRICS = {
    "balanced_accuracy": "balanced accuracy",
    "mean_recall": "mean recall over combinations",
    "worst_five": "mean of the five worst combinations",
    "worst_group": "worst combination",
    "auroc": "AUROC",
    "mcc": "MCC",
    "robustness_index": "robustness index",
    "ri": "RI",
    "ri_k": "RI’s k",
    "ri_support": "RI’s support",
    "mari": "MaRI",
    "mari_tau": "MaRI’s tau",
    "mari_support": "MaRI’s support",
    "croma": "CRoMa, median",
    "croma_worst_tenth": "CRoMa, worst tenth",
    "croma_below_zero": "CRoMa, share at or below 0",
    "apd": "APD",
    "nipd": "nIPD",
    "frechet": "Fréchet distance",
    "mmd2": "MMD²",
    "kid": "KID",
}


def known(value: Any) -> TypeGuard[float]:
    """Whether a number is there: None and NaN are undefined."""
    return value is not None and not pd.isna(value)


def number(value: Any) -> str:
    """Three significant digits, thousands apart, a true minus; a dash where undefined.

    >>> number(6103.0), number(-0.04567), number(None)
    ('6,103', '−0.0457', '–')
    """
    if not known(value):
        return DASH
    shown = f"{value:,.0f}" if float(value).is_integer() else digits(value)
    return shown.replace("-", "−")


def share(value: Any) -> str:
    """'84 %', or a dash where undefined."""
    return f"{number(round(100 * value))} %" if known(value) else DASH


def interval(low: Any, high: Any, write: Callable[[Any], str] = number) -> str:
    """' [0.71, 0.80]', or nothing where no interval is known."""
    return f" [{write(low)}, {write(high)}]" if known(low) and known(high) else ""


def short(text: str, most: int = 22) -> str:
    """A name as it fits into a figure or a sentence; the whole one stands in the tables."""
    text = text or "not known"
    return text if len(text) <= most else text[: most - 1] + "…"


def arm_name(arm: str) -> str:
    """How an arm is called."""
    if arm.endswith(GAP):
        return f"{arm_name(arm.removesuffix(GAP))}, gap corrected"
    added, by = parts_of(arm)
    if by:
        return f"{arm_name(added)} after {arm_name(by)}"
    return (ARMS | OTHER_ARMS).get(arm, arm.replace("_", " "))


def head_name(head: str) -> str:
    """How a head is called."""
    return HEADS.get(head, head.replace("_", " "))


def needs_generator(arm: str) -> bool:
    """Whether an arm trains on generated images; the others are baselines that need no generator, real, the oracle."""
    return arm.startswith(GENERATORS)


def probed_name(arm: str) -> str:
    """How an arm is called whose images a probe looks at."""
    return "real, held back" if arm == "real" else arm_name(arm)


def source_name(source: str) -> str:
    """How the source of patches is called: real patches, or the model that made them."""
    return "real" if source == "real" else arm_name(source)


def metric_name(metric: str) -> str:
    """'Fréchet distance' for 'frechet'."""
    return METRICS.get(metric, metric.replace("_", " "))


def of_arm(arm: str) -> str:
    """'MeDi’s' for 'medi'."""
    return f"{arm_name(arm)}’s"


def split_title(split: str) -> str:
    """'unseen combinations' for 'unseen'."""
    return f"{split} combinations" if split in SPLITS else split.replace("_", " ")


def splits_of(values: Iterable[Any]) -> list[str]:
    """Each split once: all, unseen, seen, then the others as they come."""
    found = [str(value) for value in dict.fromkeys(values)]
    return [split for split in SPLITS if split in found] + [split for split in found if split not in SPLITS]


def in_order(arms: Iterable[Any]) -> list[str]:
    """Each arm once: the known ones as in ARMS, then the others as they come."""
    found = [str(arm) for arm in dict.fromkeys(arms)]
    return [arm for arm in ARMS if arm in found] + [arm for arm in found if arm not in ARMS]


def ordered(names: Iterable[Any]) -> list[str]:
    """Each name once, as a reader sorts them: without regard to case, numbers by size (site 2 before site 10)."""
    return sorted({str(name) for name in names}, key=_reading)


def _reading(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"(\d+)", name.casefold())
    return [(len(part), part) if part.isdigit() else (0, part) for part in parts]
