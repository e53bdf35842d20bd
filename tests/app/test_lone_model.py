"""A model without its run, and what the page says of a study."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_run
from later import Later
from medi.app.lone_model import LoneModel
from medi.app.making import Made, Wish, sample
from medi.app.workbench import Workbench, verdict_of
from medi.core.errors import MediError

page = Later("medi.app.page")
GOLDEN = Path(__file__).parents[1] / "golden" / "model.safetensors"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["models/medi", "models/medi/model.safetensors"])
def test_a_model_alone_samples(name: str, run_folder: Path, tmp_path: Path) -> None:
    bench = LoneModel(run_folder / name, tmp_path)
    whole = Workbench(run_folder, tmp_path)
    assert bench.counts.equals(whole.counts), "it knows what it was trained on"
    assert bench.unseen_levels(bench.first, bench.first.schema.attribute("site"), "LUSC") == ["Rowan"]
    told: list[Any] = []
    wish = Wish("medi", {"class": "LUSC", "site": "Rowan", "grade": "1", "age": "60"}, steps=2, n=4)
    sample(bench, wish, told.append)
    (last,) = [found for found in told if isinstance(found, Made) and found.done]
    assert last.images.shape == (4, tiny_run.SIZE, tiny_run.SIZE, 3)
    assert last.nearest is None
    assert np.ptp(last.images) > 0
    assert page.build(bench) is not None


@pytest.mark.slow
def test_a_model_that_does_not_count_says_nothing_of_combinations(tmp_path: Path) -> None:
    bench = LoneModel(GOLDEN, tmp_path)
    assert bench.trained(bench.first, {"class": bench.first.schema.classes.levels[0]}) is None
    assert bench.unseen_levels(bench.first, bench.first.schema.attribute("site"), "") == []
    page.build(bench)


@pytest.mark.slow
def test_a_model_of_the_class_alone_is_refused(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MediError, match="knows the class alone"):
        LoneModel(run_folder / "models/cls", tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, []),
        ({"verdict": "No gain."}, ["No gain."]),
        ({"verdict": {"sentences": ["a", "b"], "grade": 1}}, ["a", "b"]),
        ({"sentences": ["c"]}, ["c"]),
    ],
)
def test_the_verdict_is_what_the_results_say(content: dict[str, Any], expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"format_version": 1} | content))
    assert verdict_of(tmp_path) == expected


@pytest.mark.slow
def test_a_table_is_audited_from_the_start(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("patch,label,site\n" + "".join(f"p{i},{'ab'[i % 2]},{'xy'[i % 2]}\n" for i in range(40)))
    texts = [str(part.value) for part in page.build_audit(tmp_path, table).blocks.values() if hasattr(part, "value")]
    assert any("site gives the class away" in text for text in texts)
    assert table.exists(), "it is not an upload"
    with pytest.raises(MediError, match="no such file"):
        page.build_audit(tmp_path, tmp_path / "none.csv")
