"""The verb plan: by a table, by names, and from what was held out."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from command_line import Medi, fine, refused


@pytest.mark.slow
def test_plan_from_a_table_and_by_name(medi: Medi, source: Path) -> None:
    fine(medi("holdout", source, "--attributes", "site", "--held", "a x NA", "--out", "h"))
    Path("wanted.csv").write_text("class,site,n\na,NA,4\nb,02,1\n")
    fine(medi("plan", "h", "--table", "wanted.csv", "--out", "p"))
    counts = pd.read_parquet("p/rows.parquet").groupby(["class", "site"]).size()
    assert counts.to_dict() == {("a", "NA"): 4, ("b", "02"): 1}
    fine(medi("plan", "h", "--wanted", "b x X", "-n", "7", "--out", "q"))
    assert len(pd.read_parquet("q/rows.parquet")) == 7
    fine(medi("holdout", source, "--attributes", "site", "--over", "site", "--held", "X", "--out", "u"))
    refused(medi("plan", "u", "--rule", "held-out", "-n", "2"), "training has no row of one of these levels")
    fine(medi("plan", "u", "--rule", "held-out", "-n", "2", "--allow-unseen", "--out", "r"))
    assert set(pd.read_parquet("r/rows.parquet")["request"]) == {"unseen level"}


@pytest.mark.slow
def test_a_wrong_option_of_the_process_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "medi.cli", "plan", "--no"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
