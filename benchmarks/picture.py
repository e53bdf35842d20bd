"""The picture of the README: real, MeDi and CLS patches of every combination, as the report of a run shows them.

python benchmarks/picture.py RUN docs/phantom.png
"""

import sys
from pathlib import Path

from medi.report.pictures import figure_of


def draw(run: Path, out: Path) -> None:
    """Write the report's picture as a PNG of 1,100 pixels across. MediError where `run` holds no sheet of patches."""
    figure_of(run).savefig(out, dpi=110)


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
