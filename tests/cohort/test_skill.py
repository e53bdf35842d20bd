"""How well metadata give the class away: the rule in plain loops, its grades, and what it must not be fooled by."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from medi.cohort import phantom
from medi.cohort.combinations import level_ids
from medi.cohort.phantom import cohorts
from medi.cohort.schema import Schema
from medi.cohort.skill import ALL, FOLDS, Chain, People, Skill, skills
from medi.core.seeds import generator
from shared_data import SHARED, real


def people_of(table: pd.DataFrame, names: list[str], seed: int = 0) -> People:
    schema = Schema.infer(table, names)
    codes = {a.name: level_ids(table, a) for a in schema.attributes}
    patient = pd.factorize(table["patient"], sort=True)[0].astype(np.int64)
    return People.of(codes, level_ids(table, schema.classes), patient, seed)


def skills_of(table: pd.DataFrame, *names: str) -> dict[str, Skill]:
    return skills(people_of(table, list(names)), list(names), 0)


def table_of(seed: int, patients: int = 200, skew: float = 0.5, classes: int = 3) -> pd.DataFrame:
    """A patch each of so many patients; the class follows the site with probability `skew`."""
    g = generator("test skill", seed)
    site = g.integers(0, 6, patients)
    label = np.where(g.random(patients) < skew, site % classes, g.integers(0, classes, patients))
    scanner = g.integers(0, 2, patients)
    named = {"class": [f"c{i}" for i in label], "site": [f"h{i}" for i in site], "scanner": [f"s{i}" for i in scanner]}
    return pd.DataFrame(named).assign(patient=[f"p{i}" for i in range(patients)])


def test_the_posterior_equals_plain_loops() -> None:
    people = people_of(table_of(0), ["site", "scanner"])
    chain, m, left_out = Chain.of(people, ["site", "scanner"]), 3.0, 2
    rows = [i for i in range(len(people.group)) if people.fold[i] != left_out]
    size = Counter(int(people.group[i]) for i in rows)
    weight = {c: len(rows) / people.classes / size[c] for c in size}

    def smoothed(of: list[int], parent: list[float]) -> list[float]:
        seen = [sum(weight[c] for i in of if people.group[i] == c) for c in range(people.classes)]
        return [(s + m * p) / (sum(seen) + m) for s, p in zip(seen, parent)]

    found = chain.posterior(2, m, [left_out])
    for i in range(len(people.group)):
        site, scanner = people.codes["site"][i], people.codes["scanner"][i]
        near = [j for j in rows if people.codes["site"][j] == site]
        both = [j for j in near if people.codes["scanner"][j] == scanner]
        expected = smoothed(both, smoothed(near, [1 / people.classes] * people.classes))
        assert found[chain.place[2][i]] == pytest.approx(expected)


def test_each_patient_is_predicted_by_the_others_p9() -> None:
    """A level of its own for each patient determines the class and predicts nothing about new ones."""
    table = table_of(0, skew=0.0)
    found = skills_of(table.assign(site=table["patient"]), "site")["site"]
    assert found.shuffled == pytest.approx(1.0)
    assert found.grade == "too few patients to say"
    assert found.balanced_accuracy < 0.45


def test_a_patient_counts_once_however_many_patches() -> None:
    table = table_of(1)
    often = pd.concat([table, *[table[table["patient"] == "p0"]] * 500], ignore_index=True)
    assert skills_of(often, "site") == skills_of(table, "site")


@pytest.mark.slow
def test_all_together_never_know_less_than_the_best_alone_and_more_where_there_is_more() -> None:
    for seed in range(4):
        found = skills_of(table_of(seed), "site", "scanner")
        assert found[ALL].balanced_accuracy >= max(found[name].balanced_accuracy for name in ("site", "scanner"))
    g = generator("xor")
    a, b = g.integers(0, 2, 600), g.integers(0, 2, 600)
    table = table_of(0, 600).assign(site=a.astype(str), scanner=b.astype(str))
    table["class"] = np.where(a ^ b, "yes", "no")
    found = skills_of(table, "site", "scanner")
    assert found[ALL].balanced_accuracy == 1.0
    assert found[ALL].grade == "alarm"
    assert found["site"].grade == found["scanner"].grade == "none"


@pytest.mark.parametrize(
    ("skew", "grade"), [(0.0, "none"), (0.3, "mild"), (0.55, "caution"), (0.85, "strong"), (1.0, "alarm")]
)
def test_grades_go_by_the_lower_limit(skew: float, grade: str) -> None:
    found = skills_of(table_of(3, 1500, skew), "site")["site"]
    assert found.grade == grade
    assert found.low <= found.balanced_accuracy <= found.high


@pytest.mark.slow
def test_the_interval_covers_the_accuracy_of_fresh_patients() -> None:
    """The rule right for the share `skew`, and by chance for the rest: 100 cohorts, of which 95 should cover it."""
    truth = 0.4 + 0.6 / 3
    found = [skills_of(table_of(seed, 150, 0.4), "site")["site"] for seed in range(100)]
    covered = sum(each.low <= truth <= each.high for each in found)
    assert covered >= 85


def test_folds_hold_whole_patients_p5() -> None:
    table = pd.concat([table_of(0), table_of(1)], ignore_index=True)
    people = people_of(table, ["site"])
    assert pd.DataFrame({"p": people.patient, "f": people.fold}).drop_duplicates()["p"].is_unique
    assert set(people.fold) == set(range(FOLDS))


@pytest.mark.slow
@real
def test_grades_of_real_cohorts() -> None:
    """TCGA's site code is an alarm and its hospital a caution; AMi-Br's domain says nothing of the whole cohort."""
    slides = pd.read_csv(SHARED / "tcga" / "slides.csv", dtype=str, keep_default_na=False)
    slides = slides.rename(columns={"case_submitter_id": "patient", "project_id": "class"})
    codes = pd.read_csv(SHARED / "tcga" / "tissue_source_sites.tsv", sep="\t", dtype=str, keep_default_na=False)
    slides["site"] = slides["slide_submitter_id"].str.split("-").str[1]
    slides["hospital"] = slides["site"].map(codes.set_index("TSS Code")["Source Site"].str.strip())
    found = {name: skills_of(slides, name)[name].grade for name in ("site", "hospital", "race", "gender")}
    assert found == {"site": "alarm", "hospital": "caution", "race": "none", "gender": "none"}
    figures = pd.read_csv(SHARED / "ami_br" / "metadata.csv", dtype=str, keep_default_na=False)
    figures = figures.rename(columns={"label": "class"}).assign(patient=figures["slide"])
    assert skills_of(figures, "domain")["domain"].grade == "none"
    fields = pd.read_csv(SHARED / "tcga_fields" / "metadata.csv", dtype=str, keep_default_na=False)
    assert (
        skills_of(fields.rename(columns={"type": "class"}), "hospital")["hospital"].grade == "too few patients to say"
    )


@pytest.mark.slow
def test_the_site_of_the_phantom_gives_the_class_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the metadata alone: no tissue is drawn."""
    monkeypatch.setattr(cohorts, "_section_of", lambda *_: None)
    monkeypatch.setattr(cohorts, "render", lambda *_: 0)
    table = phantom.cohort(0, patches=4000).table
    assert {name: each.grade for name, each in skills_of(table, "site", "group").items()} == {
        "site": "strong",
        "group": "none",
        ALL: "strong",
    }
