"""The verbs embed, fidelity and utility as a user runs them, on cohorts that `Cohort.save` wrote."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from command_line import Medi, fine, refused
from medi.cohort import phantom
from medi.cohort.pixels import Pixels
from medi.cohort.table import Cohort
from medi.evaluation.encoders import COLOUR_TEXTURE, embed
from medi.evaluation.fidelity.frechet import frechet_distance

CLASSES, SITES = phantom.CLASSES[:2], phantom.SITES[:2]
COMBINATIONS = [(c, s) for c in CLASSES for s in SITES]
HELD = COMBINATIONS[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """real: 2 classes x 2 sites, one combination held out; good: the same combinations; flat: grey images."""
    folder = tmp_path_factory.mktemp("cohorts")
    real = phantom.fresh(COMBINATIONS, 60, seed=0, stream="real", patches_per_slide=6)
    held = (real.table["class"] == HELD[0]) & (real.table["site"] == HELD[1])
    odd = real.table["patient"].isin(sorted(set(real.table["patient"]))[::2])
    split = np.where(held, "test_unseen", np.where(odd, "test_seen", "train"))
    real.with_columns(split=split).save(folder / "real")
    good = phantom.fresh(COMBINATIONS, 40, seed=1, stream="good")
    good.with_columns(fill=np.arange(len(good)) % 2 == 0).save(folder / "good")
    flat = phantom.fresh(COMBINATIONS, 40, seed=2, stream="flat")
    noise = np.random.default_rng(0).integers(120, 129, flat.images[:].shape, dtype=np.uint8)
    Cohort(flat.table, flat.schema, Pixels.of(noise)).save(folder / "flat")
    return folder


def test_embeddings_are_the_encoders_own_and_cached(medi: Medi, folders: Path) -> None:
    shown = fine(medi("embed", folders / "good", "--out", "e.parquet", "--cache", "kept"))
    assert "160 patches" in shown
    table = pd.read_parquet("e.parquet")
    cohort = Cohort.load(folders / "good")
    assert list(table["sample_id"]) == list(cohort.table["sample_id"])
    np.testing.assert_array_equal(table.drop(columns="sample_id").to_numpy(), embed(cohort, COLOUR_TEXTURE))
    (kept,) = Path("kept").rglob("*.safetensors")
    save_file({"features": load_file(kept)["features"] * 0}, kept)
    fine(medi("embed", folders / "good", "--out", "again.parquet", "--cache", "kept"))
    assert not pd.read_parquet("again.parquet").drop(columns="sample_id").to_numpy().any(), "taken from the cache"
    fine(medi("embed", folders / "flat", "--out", "flat.parquet", "--cache", "kept"))
    assert pd.read_parquet("flat.parquet").drop(columns="sample_id").to_numpy().any(), "another cohort, another entry"


def test_embedding_in_shards(medi: Medi, folders: Path) -> None:
    whole = ["embed", folders / "good", "--out", "e.parquet", "--jpeg", "80"]
    fine(medi(*whole))
    assert [path.name for path in Path().iterdir()] == ["e.parquet"], "parts go when the table is written"
    expected = pd.read_parquet("e.parquet")
    Path("e.parquet").unlink()
    refused(medi(*whole, "--shard", "0/2"), "--cache")
    assert "shard 1/2 is done" in fine(medi(*whole, "--shard", "1/2", "--cache", "kept"))
    assert not Path("e.parquet").exists()
    assert "160 patches" in fine(medi(*whole, "--shard", "0/2", "--cache", "kept"))
    pd.testing.assert_frame_equal(pd.read_parquet("e.parquet"), expected)


def test_fidelity_tells_fresh_patches_from_flat_ones(medi: Medi, folders: Path) -> None:
    arms = [f"good={folders / 'good'}", f"flat={folders / 'flat'}"]
    shown = fine(
        medi("fidelity", folders / "real", *arms, "--over", "class,site", "--n", "24", "--draws", "50", "--out", "f")
    )
    assert "240 real patches of 40 slides" in shown
    found = pd.read_parquet("f/fidelity.parquet")
    distances = found[found["metric"] == "frechet"]
    mean = distances.groupby(["scope", "arm"])["value"].mean()
    for scope in ("combination", "class"):
        assert mean[scope, "good"] < 3 * mean[scope, "floor"]
        assert mean[scope, "flat"] > 10 * mean[scope, "good"]
    cells = distances[distances["scope"] == "combination"]
    unseen = set(cells.loc[cells["split"] == "unseen", ["class", "site"]].itertuples(index=False, name=None))
    assert unseen == {HELD}, "the training rows say what is unseen"
    assert COLOUR_TEXTURE.hash in set(found["encoder"]).pop()
    assert {"class", "site", "class_mean", "site_mean"} <= set(found["scope"])


def test_fidelity_tells_who_obeys_and_who_copies(medi: Medi, folders: Path) -> None:
    real = Cohort.load(folders / "real")
    train = np.flatnonzero(real.table["split"] == "train")
    split = real.table["split"].to_numpy(dtype=object)
    split[train[::3]] = "reserve"  # of the slides that train
    real.with_columns(split=split).save(Path("reserved"))
    kept = real.select(np.flatnonzero(split == "train"))
    kept.with_columns(sample_id="copy" + kept.table["sample_id"], slide="", patient="").save(Path("copies"))
    arms = [f"good={folders / 'good'}", "copies=copies"]
    shown = fine(
        medi("fidelity", "reserved", *arms, "--over", "class,site", "--n", "20", "--draws", "50", "--out", "f")
    )
    rates = pd.read_parquet("f/memorisation.parquet").set_index(["metric", "arm"])["value"]
    assert rates["copy_rate", "copies"] > 0.99
    assert rates["copy_rate", "good"] < 0.1
    assert "copies, copy rate: 1.000" in shown
    suspects, sheet = pd.read_parquet("f/suspects.parquet"), Cohort.load(Path("f/suspects"))
    closest = suspects[suspects["arm"] == "copies"]
    assert (closest["sample_id"] == "copy" + closest["neighbour"]).all()
    assert set(sheet.table["role"]) == {"synthetic", "training"}
    control = pd.read_parquet("f/control.parquet")
    obeyed = control[(control["metric"] == "as_asked") & (control["scope"] == "all")]
    assert {"real", "good", "copies"} == set(obeyed["arm"])
    assert obeyed.groupby("arm")["value"].mean()["good"] > 0.7
    confusion = pd.read_parquet("f/confusion.parquet")
    assert (confusion.groupby(["arm", "attribute", "requested"])["share"].sum() - 1).abs().max() < 1e-9


def test_fidelity_of_real_patches_alone_is_the_floor(medi: Medi, folders: Path) -> None:
    fine(
        medi(
            "fidelity",
            folders / "real",
            "--over",
            "class",
            "--split",
            "train",
            "--n",
            "20",
            "--draws",
            "0",
            "--out",
            "f",
        )
    )
    found = pd.read_parquet("f/fidelity.parquet")
    assert set(found["arm"]) == {"floor"}
    cohort = Cohort.load(folders / "real").where(split="train")
    whole = embed(cohort, COLOUR_TEXTURE).astype(np.float64)
    one = cohort.table["class"].to_numpy() == CLASSES[0]
    across = frechet_distance(whole[one], whole[~one])
    distances = found[found["metric"] == "frechet"]
    assert (distances["value"] < across).all(), "halves of one class are nearer than two classes"


def test_utility_adds_what_fills(medi: Medi, folders: Path) -> None:
    arms = [f"good={folders / 'good'}", f"flat={folders / 'flat'}"]
    shown = fine(medi("utility", folders / "real", *arms, "--over", "class,site", "--arms", "none", "--out", "u"))
    found = pd.read_parquet("u/utility.parquet")
    accuracy = found[(found["metric"] == "balanced_accuracy") & (found["scope"] == "all")]
    assert set(zip(accuracy["arm"], accuracy["split"])) == {
        (arm, split) for arm in ("real", "good", "flat") for split in ("seen", "unseen")
    }
    train = Cohort.load(folders / "real").where(split="train")
    counts = accuracy.set_index(["arm", "split"])["n_train"]
    assert counts["real", "seen"] == len(train)
    assert counts["good", "seen"] == len(train) + 80, "half of them fill"
    assert counts["flat", "seen"] == len(train) + 160, "all of them, where no column says"
    assert "real training patches" in shown
    curves = pd.read_parquet("u/curves.parquet")
    assert set(curves["x_name"]) == {"ratio", "n_train", "real_per_class", "sites"}


def test_utility_of_a_task_against_what_is_free(medi: Medi, folders: Path) -> None:
    """A task by its classes, synthetic patches as MeDi's, stain arms among the others, gaps between groups."""
    task, over = ",".join(CLASSES), "class,site"
    given = ["utility", folders / "real", f"medi={folders / 'good'}", "--over", over, "--task", task]
    shown = fine(medi(*given, "--arms", "combination_weights,macenko", "--attribute", "group", "--out", "u"))
    assert f"classes: {task}" in shown
    assert "medi - macenko" in shown
    found = pd.read_parquet("u/utility.parquet")
    assert set(found["task"]) == {task}
    overall = found[(found["metric"] == "balanced_accuracy") & (found["scope"] == "all")]
    assert set(overall["arm"]) == {"real", "medi", "combination_weights", "macenko"}
    gaps = found[(found["metric"] == "demographic_parity_gap") & (found["split"] == "seen")]
    assert set(gaps["scope"]) == {"site", "group"}


def test_a_site_that_training_never_saw_is_a_split_of_its_own(medi: Medi, folders: Path, tmp_path: Path) -> None:
    real = Cohort.load(folders / "real")
    gone = (real.table["site"] == SITES[0]).to_numpy()
    split = np.where(
        gone, "test_unseen", np.where(real.table["split"] == "test_unseen", "reserve", real.table["split"])
    )
    real.with_columns(split=split).save(tmp_path / "site")
    fine(medi("utility", tmp_path / "site", "--over", "class,site", "--arms", "none", "--probe", "medi", "--out", "u"))
    assert set(pd.read_parquet("u/utility.parquet")["split"]) == {"seen", "unseen_sites", ""}


def test_mistakes_get_one_line(medi: Medi, folders: Path, tmp_path: Path) -> None:
    real, good = folders / "real", folders / "good"
    refused(medi("embed", tmp_path / "nowhere"), "nowhere")
    refused(medi("embed", real, "--encoder", "incepption"), "incepption", COLOUR_TEXTURE.name)
    refused(medi("fidelity", real, good), "NAME=COHORT")
    refused(medi("fidelity", real, f"floor={good}"), "'floor' is taken")
    refused(medi("fidelity", real, f"a={good}", f"a={good}"), "'a' is taken")
    refused(medi("fidelity", real, "--over", "class,scanner"), "scanner", "site")
    refused(medi("fidelity", real, "--over", "site"), "class")
    refused(medi("fidelity", real, "--split", "valid"), "valid", "train")
    grey = Cohort.load(good)
    plain = np.repeat(grey.images[:].mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8)
    Cohort(grey.table, grey.schema, Pixels.of(plain)).save(tmp_path / "grey")
    refused(medi("fidelity", real, f"grey={tmp_path / 'grey'}"), "grey has grey patches", "real")
    refused(medi("utility", good), "no patch is for training", "medi holdout")
    refused(medi("utility", real, "--task", "nsclc"), "task nsclc", "LUAD, LUSC", CLASSES[0])
    refused(medi("utility", real, "--task", CLASSES[0]), "two classes or more")
    refused(medi("utility", real, "--probe", "best", "--over", "class,site"), "best", "tuned, medi, uni")
    refused(medi("utility", real, "--arms", "coal", "--over", "class,site"), "coal", "coral")
    refused(medi("utility", real, "--attribute", "race", "--over", "class,site"), "race")
    large = phantom.fresh(COMBINATIONS, 2, seed=0, stream="large", size=64)
    large.save(tmp_path / "large")
    refused(medi("fidelity", real, f"large={tmp_path / 'large'}"), "64 px", "32")
    Cohort(large.table, large.schema).save(tmp_path / "bare")
    refused(medi("embed", tmp_path / "bare"), "bare", "medi pack")
