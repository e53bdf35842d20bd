"""The façade's measures: the same figures as the study's, results that show and save themselves, clear refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import medi
from medi.api.given import columns_of, notes_on
from medi.api.results import Fidelity, Utility
from medi.cohort import phantom
from medi.cohort.schema import Schema
from medi.cohort.table import Cohort, concatenate
from medi.core.errors import MediError
from medi.core.progress import Silent
from medi.core.tables import FIDELITY, UTILITY
from medi.evaluation.encoders import encoder
from medi.evaluation.splits import added
from medi.models.checkpoint import Checkpoint
from medi.models.network import NetworkSettings
from medi.report.verdict import verdict

CLASSES, SITES = phantom.CLASSES[:2], phantom.SITES[:2]
CELLS = [(c, s) for c in CLASSES for s in SITES]
HELD = CELLS[0]


@pytest.fixture(scope="module")
def real() -> Cohort:
    """Two classes at two sites; one combination has no training patch."""
    cohort = phantom.fresh(CELLS, 48, seed=0, stream="real", patches_per_slide=4)
    held = (cohort.table["class"] == HELD[0]) & (cohort.table["site"] == HELD[1])
    odd = cohort.table["patient"].isin(sorted(set(cohort.table["patient"]))[::2])
    return cohort.with_columns(split=np.where(held, "test_unseen", np.where(odd, "test_seen", "train")))


@pytest.fixture(scope="module")
def made() -> Cohort:
    return phantom.fresh(CELLS, 20, seed=1, stream="made")


@pytest.fixture(scope="module")
def found(real: Cohort, made: Cohort) -> Fidelity:
    return medi.fidelity(real, {"my - model": made}, over=["class", "site"], n=20, draws=0)


@pytest.mark.slow
def test_classes_are_mixed_as_the_training_rows_are(found: Fidelity) -> None:
    """Defect: shares of all real rows here, shares of the training rows in `medi run`.

    Training has the first class at one site alone, so that its distance is that of this one combination.
    """
    rows = found.tables["fidelity"].query("metric == 'frechet' and arm == 'my - model'")
    whole = rows[(rows["scope"] == "class") & (rows["class"] == HELD[0])]
    one = rows[(rows["scope"] == "combination") & (rows["class"] == HELD[0]) & (rows["site"] == SITES[1])]
    assert whole["value"].item() == one["value"].item()
    unseen = rows[(rows["scope"] == "combination") & (rows["split"] == "unseen")]
    assert list(zip(unseen["class"], unseen["site"])) == [HELD]


@pytest.mark.slow
def test_without_a_split_all_real_rows_give_the_shares(real: Cohort, made: Cohort) -> None:
    bare = Cohort(real.table.drop(columns="split"), real.schema, real.pixels)
    table = medi.fidelity(bare, made=made, over=["class", "site"], n=20, draws=0).tables["fidelity"]
    assert set(table["split"]) == {"seen", ""}
    assert (table[(table["scope"] == "class") & (table["metric"] == "frechet")]["n_real"] == 20).all()


@pytest.mark.slow
def test_results_show_draw_and_save_themselves(found: Fidelity, tmp_path: Path) -> None:
    assert "my - model" in str(found)
    assert "<table" in found._repr_html_()
    assert isinstance(found.figure(), Figure)
    assert found.save(str(tmp_path)) == tmp_path
    pd.testing.assert_frame_equal(FIDELITY.read(tmp_path), found.tables["fidelity"])
    assert {path.stem for path in tmp_path.glob("*.parquet")} == {"embeddings", *found.tables}
    assert len(Cohort.load(tmp_path / "suspects")) == 24


@pytest.mark.slow
def test_utility_by_name_by_mapping_and_by_folder(real: Cohort, made: Cohort, tmp_path: Path) -> None:
    made.save(tmp_path / "made")
    found = medi.utility(real, {"my - model": str(tmp_path / "made")}, other=made, over=["class", "site"], arms="none")
    assert isinstance(found, Utility)
    assert found.to_frame()["arm"].tolist() == ["real", "my - model", "other", "pure_noise", "chance"]
    assert isinstance(found.figure(), Figure)
    table = found.tables["utility"]
    pairs = table[table["metric"] == "balanced_accuracy_difference"]
    assert set(zip(pairs["arm"], pairs["against"])) == {
        ("my - model", "real"),
        ("my - model", "other"),
        ("my - model", "pure_noise"),
        ("other", "real"),
        ("other", "pure_noise"),
    }
    found.save(tmp_path / "u")
    pd.testing.assert_frame_equal(UTILITY.read(tmp_path / "u"), table)


def test_a_set_without_a_name_is_called_synthetic(real: Cohort, made: Cohort) -> None:
    asked = {"over": ["class", "site"], "draws": 0}
    alone, named = medi.fidelity(real, made, **asked), medi.fidelity(real, synthetic=made, **asked)
    pd.testing.assert_frame_equal(alone.to_frame(), named.to_frame())
    assert "synthetic" in alone.to_frame()
    with pytest.raises(MediError, match="the set 'synthetic' is given twice"):
        medi.fidelity(real, made, synthetic=made)


def test_images_of_a_model_of_another_hold_out_are_named_p5() -> None:
    """Patches that are tested under this hold-out may have trained a model of another one."""
    extractor = encoder("colour-texture")
    one, other = (phantom.cohort(0, patches=400).hold_out(rate=0.1, min_patients=1, seed=seed) for seed in (0, 1))
    known = Checkpoint(NetworkSettings(), one.schema, info=one.info)
    made = replace(one, info=dict(known.about()))
    assert known.about()["holdout"]["train"] == one.info["certificate"]["ids"]["train"]
    assert not Checkpoint(NetworkSettings(), one.schema).about()
    assert not replace(known, adaptations=({},)).about(), "it learned from a second cohort"
    elsewhere = phantom.cohort(1, patches=400).hold_out(rate=0.1, min_patients=1, seed=1)
    assert notes_on(extractor, {"real": elsewhere, "made": made}) == (), "other patients"
    assert notes_on(extractor, {"real": one, "made": made}) == ()
    assert notes_on(extractor, {"real": replace(other, info={}), "made": made}) == (), "no hold-out to compare with"
    assert notes_on(extractor, {"real": other, "plain": replace(made, info={}), "made": made}) == (
        "made: the model was trained under another hold-out of these patches, so it may have seen what tests here; "
        "train and sample under this one",
    )


@pytest.mark.slow
def test_stains_are_compared_where_they_are_asked_for(real: Cohort) -> None:
    found = medi.utility(real, over=["class", "site"], arms=["reinhard", "dfr"])
    assert set(found.to_frame()["arm"]) == {"real", "dfr", "reinhard", "chance"}


@pytest.mark.slow
def test_what_is_added_is_normalised_with_the_real_patches(real: Cohort, made: Cohort) -> None:
    """Of every set and of the oracle, by task as well; the filtered one where it is asked for."""
    oracle = phantom.fresh([HELD], 8, seed=2, stream="oracle")
    asked = {"over": ["class", "site"], "arms": ["reinhard", "mine_filtered"], "task": ",".join(CLASSES)}
    found = medi.utility(real, mine=made, oracle=oracle, **asked)
    sets = {"real", "mine", "oracle", "pure_noise", "chance", "mine_filtered"}
    sets |= {"reinhard", "mine_reinhard", "oracle_reinhard", "mine_filtered_reinhard"}
    assert set(found.to_frame()["arm"]) == sets
    rows = found.tables["utility"].query("metric == 'mean_recall' and split == 'all' and scope == 'all'")
    rows = rows.set_index("arm")
    assert (rows.loc["mine_reinhard", ["n_train", "n_synthetic"]] == rows.loc["mine", ["n_train", "n_synthetic"]]).all()
    assert rows.loc["oracle_reinhard", "n_synthetic"] == 0
    gaps = found.tables["utility"].query("metric == 'mean_recall_difference' and split == 'all'")
    pairs = set(zip(gaps["arm"], gaps["against"]))
    assert {("mine_reinhard", "reinhard"), ("mine_filtered_reinhard", "reinhard"), ("mine", "mine_reinhard")} <= pairs
    assert "With Reinhard normalisation of all patches, mean recall is" in " ".join(verdict(found.tables["utility"]))


def test_embed_is_one_row_a_patch(made: Cohort, tmp_path: Path) -> None:
    rows = medi.embed(made, cache=tmp_path)
    assert len(rows) == len(made)
    assert rows.features.dtype == np.float64
    assert list(tmp_path.rglob("*.safetensors"))


def test_mistakes_are_medi_errors(real: Cohort, made: Cohort, tmp_path: Path) -> None:
    bare = Cohort(made.table, made.schema)
    for given, named, options, said in (
        (bare, {}, {}, "not packed"),
        (tmp_path / "nowhere", {}, {}, "nowhere"),
        (real, {"floor": made}, {}, "'floor' is taken"),
        (real, {}, {"over": ["site"]}, "class"),
        (real, {}, {"over": ["class", "scanner"]}, "scanner.*site"),
        (real, {}, {"splits": ["valid"]}, "valid.*train"),
        (real, {}, {"encoder": "incepption"}, "incepption.*colour-texture"),
    ):
        with pytest.raises(medi.MediError, match=said):
            medi.fidelity(given, named, **options)
    with pytest.raises(medi.MediError, match="'made' is given twice"):
        medi.fidelity(real, {"made": made}, made=made)
    with pytest.raises(medi.MediError, match="no patch is for training"):
        medi.utility(made)
    with pytest.raises(medi.MediError, match=r"'coal' is unknown.*did you mean 'coral'"):
        medi.utility(real, over=["class", "site"], arms="coal")


class Lines(Silent):
    """Keeps the lines that are shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.slow
def test_rows_without_a_class_are_no_class_and_are_counted(real: Cohort) -> None:
    names = real.table["class"].mask(np.arange(len(real)) % 7 == 0, "").mask(np.arange(len(real)) % 11 == 0, "n/a")
    schema = Schema.infer(real.table.assign(**{"class": names}), ["site"], missing={"class": ["", "n/a"]})
    known = (names != "") & (names != "n/a")
    gaps, shown = Cohort(real.table.assign(**{"class": names}), schema, real.pixels, real.info), Lines()
    found = medi.utility(gaps, arms="none", head="medi", over=["class", "site"], progress=shown)
    assert f"real: {(~known).sum()} of {len(known)} patches have no class and are left out" in shown.lines
    assert set(found.tables["utility"]["class"]) == {"", *CLASSES}
    whole = medi.utility(real.select(known.to_numpy()), arms="none", head="medi", over=["class", "site"])
    pd.testing.assert_frame_equal(found.tables["utility"], whole.tables["utility"])
    distances = medi.fidelity(gaps, over=["class", "site"], draws=0, n=20, progress=Lines())
    assert set(distances.tables["fidelity"]["class"]) == {"", *CLASSES}
    with pytest.raises(MediError, match="real: no patch has a class"):
        medi.utility(real.with_columns(**{"class": ""}), arms="none")


@pytest.mark.slow
def test_what_fills_is_read_from_text_too(real: Cohort, made: Cohort) -> None:
    """A cohort that went through a table has True and False as text, and any text counts as true."""
    fills = np.arange(len(made)) % 4 == 0
    flags, texts = made.with_columns(fill=fills), made.with_columns(fill=pd.Series(fills).map(str))
    assert added("made", texts).table["sample_id"].tolist() == added("made", flags).table["sample_id"].tolist()
    with pytest.raises(MediError, match="made: its column 'fill' says which patches are added"):
        medi.utility(real, made=made.with_columns(fill="blue"))
    medi.fidelity(real.with_columns(encoder=real.table["site"]), made=made, over=["class", "site"], n=20, draws=0)


@pytest.mark.slow
def test_the_combinations_are_those_of_the_holdout_by_default() -> None:
    """Of all attributes crossed a rule that sees them reaches far more than chance, and combinations have few rows."""
    patches = phantom.cohort(seed=0, patches=400)
    assert columns_of(patches, None) == ("class", "site", "group")
    held = patches.hold_out(over=["class", "site"], rate=0.1, min_patients=1)
    assert columns_of(held, None) == ("class", "site")
    with pytest.raises(MediError, match="no column 'hospital'; there are"):
        patches.where(hospital="Alder")


@pytest.mark.parametrize("names", [["mine_macenko"], ["reinhard"], ["mine", "mine_filtered"], ["mine", "mine_gap"]])
def test_names_of_sets_that_utility_makes_by_itself_are_refused(real: Cohort, made: Cohort, names: list[str]) -> None:
    """Their rows would be taken for one another's; distances make no such sets."""
    with pytest.raises(MediError, match=f"the name '{names[-1]}' stands for patches"):
        medi.utility(real, dict.fromkeys(names, made), over=["class", "site"])


@pytest.mark.slow
def test_a_test_split_without_patches_of_a_task_is_no_set(real: Cohort) -> None:
    """Found by trying: an empty split was stained as if it were added to the training patches."""
    more = phantom.fresh([("solid", SITES[0])], 8, seed=3, stream="other").with_columns(split="test_unseen")
    seen = real.select((real.table["split"] != "test_unseen").to_numpy())
    found = medi.utility(concatenate([seen, more]), over=["class", "site"], arms=["reinhard"], task=",".join(CLASSES))
    assert set(found.to_frame()["arm"]) == {"real", "reinhard", "chance"}
