"""Do groups of colour and sharpness agree with the sites, and with the class? `medi audit --discover`, measured.

python benchmarks/discover.py                            the phantom, and its sites one at a time
python benchmarks/discover.py --ami AMI/metadata.csv     AMi-Br as well (its six site/scanner domains)
python benchmarks/discover.py --quick                    a small phantom

The statistics and the rule were chosen on seed 0 of the phantom and on AMi-Br. The other seeds were looked at
afterwards.
ARI: adjusted Rand index over patches. The last line is one JSON object.
"""

import argparse
from pathlib import Path

from sklearn.metrics import adjusted_rand_score

import medi
from common import figure, report
from medi.cohort import phantom
from medi.cohort.table import Cohort

SEEDS = (0, 1, 2)


def agreement(cohort: Cohort, column: str) -> float:
    """ARI between a column and the groups; all one group where none were found."""
    groups = cohort.table["derived"] if "derived" in cohort.table else ["one"] * len(cohort)
    return float(adjusted_rand_score(cohort.table[column], groups))


def figures_of(name: str, found: list[Cohort], site: str, groups: int) -> dict[str, dict[str, object]]:
    n, of = len(found), f"{groups} true groups; {len(found[0]):,} patches"
    return {
        f"{name}_groups": figure([one.info["derived"]["groups"] for one in found], "", None, n, of),
        f"{name}_ari_site": figure([agreement(one, site) for one in found], "", None, n, of),
        f"{name}_ari_class": figure([agreement(one, "class") for one in found], "", None, n, of),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ami", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    patches, seeds, sites = (120, (0,), phantom.SITES[:1]) if options.quick else (4000, SEEDS, phantom.SITES)
    found = [medi.phantom(patches=patches, seed=seed).discover() for seed in seeds]
    figures = figures_of("phantom", found, "site", len(phantom.SITES))
    alone = [phantom.fresh([(c, s) for c in phantom.CLASSES], 80, 1, "alone").discover() for s in sites]
    figures |= {
        "one_site_groups": figure([one.info["derived"]["groups"] for one in alone], "", "<= 1", len(alone), "1")
    }
    if options.ami:
        read = medi.read(options.ami, label="label", attributes=["domain"], slide="slide", patient="")
        figures |= figures_of("ami_br", [read.discover()], "domain", 6)
    report("discover", figures, ("numpy", "scikit-learn"))


if __name__ == "__main__":
    main()
