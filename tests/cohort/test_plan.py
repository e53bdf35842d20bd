"""Plans: counts from training rows only (P5), sample i is sample i (P3), unseen levels only on request (P1)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medi.cohort.plan import Plan, balance, combinations, from_table, images, match, union, with_siblings
from medi.cohort.schema import Schema
from medi.core import seeds
from medi.core.errors import MediError


def cohort() -> pd.DataFrame:
    """Class a at sites x (6 rows), y (2); class b at y (3); site z only in test; scanner missing in class b."""
    rows = [("a", "x", "s1", "train")] * 4 + [("a", "x", "s2", "train")] * 2 + [("a", "y", "s1", "train")] * 2
    rows += [("b", "y", "", "train")] * 3 + [("b", "x", "s2", "test_unseen")] * 9 + [("b", "z", "s1", "test_unseen")]
    rows += [("b", "y", "s1", "reserve"), ("a", "x", "s1", "validation")]
    table = pd.DataFrame(rows, columns=["class", "site", "scanner", "split"])
    ages = [str(20 + i) for i in range(len(table))]
    return table.assign(sample_id=[f"r{i}" for i in range(len(table))], age=ages)


@pytest.fixture
def schema() -> Schema:
    return Schema.infer(cohort(), ["site", "scanner", "age"], continuous=["age"])


def asked(plan: Plan, column: str = "n") -> dict[tuple[str, ...], int]:
    return {tuple(row[name] for name in plan.over): row[column] for row in plan.table.to_dict("records")}


def test_balance_fills_to_the_largest_training_count_p5(schema: Schema) -> None:
    plan = balance(cohort(), schema)
    assert asked(plan, "real") == {("a", "x"): 6, ("a", "y"): 2, ("b", "x"): 0, ("b", "y"): 3}
    assert asked(plan) == {("a", "x"): 0, ("a", "y"): 4, ("b", "x"): 6, ("b", "y"): 3}
    assert asked(plan, "fill") == asked(plan)
    assert asked(plan, "request")[("b", "x")] == "new combination"
    assert asked(plan, "request")[("b", "y")] == "seen combination"
    assert len(plan) == 13


def test_balance_to_a_number_up_to_a_cap_and_at_least_a_minimum(schema: Schema) -> None:
    assert asked(balance(cohort(), schema, to=10)) == {("a", "x"): 4, ("a", "y"): 8, ("b", "x"): 10, ("b", "y"): 7}
    assert asked(balance(cohort(), schema, cap=3)) == {("a", "x"): 0, ("a", "y"): 1, ("b", "x"): 3, ("b", "y"): 0}
    plan = balance(cohort(), schema, cap=3, minimum=2)
    assert asked(plan) == {("a", "x"): 2, ("a", "y"): 2, ("b", "x"): 3, ("b", "y"): 2}
    assert asked(plan, "fill") == {("a", "x"): 0, ("a", "y"): 1, ("b", "x"): 3, ("b", "y"): 0}
    images = plan.expand(0)
    assert images.groupby(["class", "site"])["fill"].sum().to_dict() == asked(plan, "fill")
    assert images[(images["class"] == "a") & (images["site"] == "y")]["fill"].tolist() == [True, False]


@pytest.mark.parametrize("seed", range(5))
def test_balanced_counts_are_equal_on_random_tables(seed: int) -> None:
    g = seeds.generator("test plan", seed)
    size = 300
    table = pd.DataFrame({"class": g.choice(list("abc"), size), "site": g.choice(list("wxyz"), size)})
    table["split"] = g.choice(["train", "test_seen"], size)
    plan = balance(table, Schema.infer(table, ["site"]))
    total = plan.table["real"] + plan.table["n"]
    train = table[table["split"] == "train"]
    assert (total == train.groupby(["class", "site"]).size().max()).all()
    assert plan.table["real"].sum() == len(train)


def test_unseen_levels_are_refused_unless_asked_for(schema: Schema) -> None:
    assert "z" not in set(balance(cohort(), schema).table["site"])
    every = balance(cohort(), schema, allow_unseen=True)
    assert asked(every, "request")[("a", "z")] == "unseen level"
    with pytest.raises(MediError, match="a x z: training has no row of one of these levels"):
        combinations(cohort(), schema, [("a", "z")], 5)
    allowed = combinations(cohort(), schema, [("a", "z")], 5, allow_unseen=True)
    assert allowed.table["request"].tolist() == ["unseen level"]
    with pytest.raises(MediError, match="site 'q' is unknown; known levels: x, y, z"):
        combinations(cohort(), schema, [("a", "q")], 5)


def test_union_gives_every_class_every_site_that_any_class_has(schema: Schema) -> None:
    assert asked(union(cohort(), schema, 5)) == dict.fromkeys([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")], 5)
    both = union(cohort(), schema, 2, over=("site", "class", "scanner"))
    assert {key[::2] for key in asked(both)} == {("x", "s1"), ("x", "s2"), ("y", "s1")}  # as they occur, not crossed
    with pytest.raises(MediError, match="needs the class"):
        union(cohort(), schema, 5, over=("site",))


def test_match_follows_the_real_marginals(schema: Schema) -> None:
    assert asked(match(cohort(), schema)) == {("a", "x"): 6, ("a", "y"): 2, ("b", "y"): 3}
    assert asked(match(cohort(), schema, 10)) == {("a", "x"): 8, ("a", "y"): 2, ("b", "y"): 10}
    assert asked(match(cohort(), schema, 12, over=("site",))) == {("x",): 7, ("y",): 5}


@pytest.mark.parametrize("n", [1, 7, 100, 1001])
def test_match_shares_are_within_one_of_exact_and_sum_to_n(n: int) -> None:
    g = seeds.generator("test match", n)
    table = pd.DataFrame({"class": g.choice(list("ab"), 200), "site": g.choice(list("vwxyz"), 200), "split": "train"})
    plan = match(table, Schema.infer(table, ["site"]), n).table
    for _, part in plan.groupby("class"):
        assert part["n"].sum() == n
        assert (np.abs(part["n"] - n * part["real"] / part["real"].sum()) < 1).all()


def test_a_table_is_taken_as_written(schema: Schema) -> None:
    wanted = pd.DataFrame({"class": ["b", "a"], "site": ["x", "x"], "n": ["3", "0"]})
    assert asked(from_table(cohort(), schema, wanted)) == {("b", "x"): 3, ("a", "x"): 0}
    broken = {
        "no count": wanted.assign(n=["3", "-1"]),
        "n = '2.5'": wanted.assign(n=["2.5", "1"]),
        "occurs twice": pd.concat([wanted, wanted]),
        "needs a column n": wanted.drop(columns="n"),
        "is no attribute": wanted.rename(columns={"site": "hospital"}),
        "is continuous": wanted.rename(columns={"site": "age"}),
    }
    for message, table in broken.items():
        with pytest.raises(MediError, match=message):
            from_table(cohort(), schema, table)


def test_expansion_is_a_patch_table_with_shared_noise_p3(schema: Schema) -> None:
    plan = balance(cohort(), schema)
    first, second = plan.expand(0, "medi-"), plan.expand(0, "cls-")
    columns = ["sample_id", "class", "site", "scanner", "age", "noise_id", "request", "fill"]
    assert list(first.columns) == columns
    assert len(first) == len(plan)
    assert first["sample_id"].is_unique
    assert first["noise_id"].equals(second["noise_id"])
    assert not set(first["sample_id"]) & set(second["sample_id"])
    assert first.groupby(["class", "site"]).size().to_dict() == {k: n for k, n in asked(plan).items() if n}
    schema.encode(first)  # every value is known to the schema that the models travel with


def test_a_larger_plan_repeats_the_images_of_a_smaller_one_p3(schema: Schema) -> None:
    small = balance(cohort(), schema, to=20).expand(4).set_index("sample_id")
    large = balance(cohort(), schema, to=50, minimum=50).expand(4).set_index("sample_id").loc[small.index]
    assert large.drop(columns="fill").equals(small.drop(columns="fill"))


def test_siblings_differ_in_one_attribute_alone_p3(schema: Schema) -> None:
    rows = balance(cohort(), schema, to=12, minimum=5).expand(0)
    found = with_siblings(rows, "site", 3)
    number = rows.groupby(["class", "site"]).cumcount()
    for (_, i), family in found.groupby(["class", number]):
        others = family[["noise_id", "scanner", "age"]].drop_duplicates()
        assert len(others) == (1 if i < 3 else len(family))
        assert family["site"].is_unique
    assert found["sample_id"].is_unique
    pd.testing.assert_frame_equal(found[number >= 3], rows[number >= 3])
    unchanged = ["sample_id", "class", "site", "request", "fill"]
    pd.testing.assert_frame_equal(found[unchanged], rows[unchanged])


def test_noise_ids_tell_alike_names_apart() -> None:
    rows = [("a_b", "c"), ("a", "b_c"), ("a", "b/c"), ("a b", "c")]
    table = pd.DataFrame(rows, columns=["class", "site"]).assign(split="train")
    images = match(table, Schema.infer(table, ["site"])).expand(0)
    assert images["noise_id"].is_unique
    assert not images["noise_id"].str.contains("/").any()


def test_other_attributes_come_from_training_rows_of_the_combination(schema: Schema) -> None:
    """Class b at y has no known scanner; class b at x has no row, so it takes those of site x."""
    images = combinations(cohort(), schema, [("b", "y"), ("b", "x"), ("a", "x")], 400).expand(1)
    found = images.groupby(["class", "site"])["scanner"]
    assert set(found.get_group(("b", "y"))) == {""}
    assert set(found.get_group(("b", "x"))) == {"s1", "s2"}  # never the s2 of the test rows alone
    share = (found.get_group(("a", "x")) == "s1").mean()
    assert abs(share - 4 / 6) < 4 * np.sqrt(2 / 9 / 400)
    trained = cohort().query("split == 'train'")
    assert set(images["age"]) <= set(trained["age"])
    pairs = set(zip(trained["site"], trained["scanner"], trained["age"]))
    assert set(zip(images["site"], images["scanner"], images["age"])) <= pairs  # drawn together, not one by one


def test_draws_follow_the_number_of_training_rows() -> None:
    """Class a at x has four patches of scanner s1 and two of s2: two distinct rows of unequal weight."""
    schema = Schema.infer(cohort(), ["site", "scanner"])
    found = combinations(cohort(), schema, [("a", "x")], 900).expand(1)["scanner"]
    assert abs((found == "s1").mean() - 4 / 6) < 4 * np.sqrt(2 / 9 / 900)


def test_sites_that_never_meet_draw_from_all_training_rows(schema: Schema) -> None:
    plan = combinations(cohort(), schema, [("b", "y", "s2")], 50, over=("class", "site", "scanner"))
    assert plan.table["request"].tolist() == ["new combination"]
    assert set(plan.expand(0)["age"]) <= set(cohort().query("split == 'train'")["age"])


def test_a_class_only_schema_plans_too() -> None:
    table = cohort()
    plan = balance(table, Schema.infer(table, []))
    assert asked(plan) == {("a",): 0, ("b",): 5}
    assert set(plan.expand(0)["class"]) == {"b"}


def test_saved_and_loaded(tmp_path: Path, schema: Schema) -> None:
    plan = balance(cohort(), schema, minimum=2)
    again = Plan.load(plan.save(tmp_path))
    assert again.table.equals(plan.table)
    assert (again.over, again.schema) == (plan.over, plan.schema)
    assert again.expand(3).equals(plan.expand(3))
    (tmp_path / "plan.json").write_text('{"format_version": 99}')
    with pytest.raises(MediError, match="newer"):
        Plan.load(tmp_path)


def test_nothing_to_plan_is_one_clear_error(schema: Schema) -> None:
    with pytest.raises(MediError, match="no column 'split'"):
        balance(cohort().drop(columns="split"), schema)
    with pytest.raises(MediError, match="no patch is for training"):
        balance(cohort().assign(split="test_seen"), schema)
    with pytest.raises(MediError, match="asks for no image"):
        balance(cohort(), schema, ["class"], to=1).expand(0)


def test_too_many_combinations_are_refused_before_memory_is_gone(
    schema: Schema, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medi.cohort.plan.MOST", 3)
    with pytest.raises(MediError, match="4 combinations of class, site are too many"):
        balance(cohort(), schema)


def test_images_of_a_table_of_counts_p3(schema: Schema) -> None:
    """A larger table repeats the noise of a smaller one and of a plan; without n a row is one image."""
    wanted = pd.DataFrame({"class": ["a", "b"], "site": ["x", "y:0.5+x:0.5"], "n": ["2", "1"]})
    rows = images(wanted)
    assert rows[["class", "site"]].to_numpy().tolist() == [["a", "x"]] * 2 + [["b", "y:0.5+x:0.5"]]
    assert rows["noise_id"].is_unique
    assert (rows["noise_id"] == rows["sample_id"]).all()
    assert (
        rows["noise_id"].tolist()[:2] == combinations(cohort(), schema, [("a", "x")], 2).expand(0)["noise_id"].tolist()
    )
    more = images(wanted.assign(n=["5", "4"]))
    assert set(rows["noise_id"]) < set(more["noise_id"])
    assert len(images(wanted.drop(columns="n"))) == 2
    done = pd.DataFrame({"sample_id": ["s"], "class": ["a"]})
    assert images(done)["noise_id"].tolist() == ["s"]
    assert images(done.assign(noise_id="other"))["noise_id"].tolist() == ["other"]


@pytest.mark.parametrize(("n", "words"), [("-1", "n = '-1' .* is no count"), ("1.5", "n = '1.5'"), ("x", "n = 'x'")])
def test_images_of_no_count_are_refused(n: str, words: str) -> None:
    with pytest.raises(MediError, match=words):
        images(pd.DataFrame({"class": ["a"], "n": [n]}))
