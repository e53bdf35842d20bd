"""When something may be claimed: every limit that a verdict depends on, in one place. Reports print them (P13).

The primary endpoint is the mean recall over all combinations of class and attribute alike, seen and unseen. A rule that
sees the attribute alone reaches one over the number of classes on it, whatever the cohort; on unseen combinations alone
such a rule can be right every time, and real images that teach the attribute are worse than chance there.
"""

from collections.abc import Iterable

PRIMARY = "mean_recall"  # metric of the primary endpoint, on the split of all test patches
HALF_WAY = 0.5  # of the way from chance to real images: below it, images do not show what was asked for
LEAST_RECALL = 0.05  # share of real patches whose neighbourhood holds an image; below it, the images are of few kinds
GUARD = "collapse guard"  # begins the reason of a difference in distance whose nearer set is of few kinds
LEAST_RESERVED = 19  # training patches kept from the models: with fewer no threshold tells copies
NOWHERE = "to no combination"  # ends the reason of a mean that leaves out patches whose level is not known
COPIES, LEAKS = 0.01, 0.05  # shares of fresh real patches that the tests call copies, and like one training slide
LEAST_IMAGES = 20  # of each set for a distance; with fewer there is none


def of_no_combination(reasons: Iterable[str]) -> list[str]:
    """What reasons say of patches that belong to no combination, each once."""
    parts = [part for reason in reasons for part in str(reason).split("; ")]
    return [part for part in dict.fromkeys(parts) if part.endswith(NOWHERE)]


def rules() -> dict[str, str]:
    """Each rule by its name, in a sentence, with its limit."""
    return {
        "primary endpoint": "Mean recall over all combinations of class and attribute alike, seen and unseen. A rule "
        "that sees the attribute alone reaches chance on it.",
        "gain": "Claimed only where three 95 % limits hold under one head. The lower limits of the differences to real "
        "images alone and to pure noise are above 0. The lower limit of the training set itself is above chance.",
        "usable images": f"The upper limit of the share as asked, of class and of attribute, is at least {HALF_WAY:g} "
        "of the way from chance to real images. Recall, the share of real patches near some image, is at least "
        f"{LEAST_RECALL:g}. A probe that is no better than chance on real images does not judge.",
        "distance": f"Measured on at least {LEAST_IMAGES} images of each set; a dash stands for fewer.",
        "remedies": "No remedy is called the best: the test patches must not choose.",
    }
