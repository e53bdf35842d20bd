"""The page: self-contained, escaped (P11), complete, honest about what is missing (P7), and small."""

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from fabricated import CLASSES, SITES, Fabricate, write_more, write_run

from medi import figures
from medi.cohort.table import Cohort
from medi.core.errors import MediError
from medi.core.files import read_json, read_table, write_json, write_table
from medi.report.page import HERE, build, headlines
from medi.report.parts import Section, table_of
from medi.report.run import Results, Run, read
from medi.report.sections.cohort import audit, holdout
from medi.report.sections.control import control
from medi.report.sections.fidelity import _guard, fidelity
from medi.report.sections.memorisation import memorisation
from medi.report.sections.samples import samples
from medi.report.sections.settings import licences, settings
from medi.report.sections.training import training
from medi.report.sections.utility import utility

SCRIPT = "<script>alert(1)</script>"
NASTY = f'{SCRIPT} & "$x_1$" \'<img src=x onerror=alert(2)>'
FIGURES = 20  # of a study with every table
OTHER_NAMES = {  # a column of each later table whose names come from outside
    "control": "arm",
    "confusion": "arm",
    "memorisation": "arm",
    "suspects": "neighbour_slide",
    "curves": "x_name",
    "utility": "arm",
}
VOID = {"meta", "link", "img", "br", "path", "use", "rect", "image"}


class Outline(HTMLParser):
    """What a browser would see: tags, attributes, text, and whether the tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def values(self, name: str) -> list[str]:
        return [value for _, key, value in self.attributes if key == name]


def page(run: Path) -> tuple[str, Outline]:
    html = build(run).read_text(encoding="utf-8")
    return html, Outline(html)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Outline]:
    """The page of a finished run."""
    return page(write_more(write_run(tmp_path_factory.mktemp("whole") / "run")))


@pytest.fixture
def small(fabricate: Fabricate) -> Path:
    """A run folder of 2 x 2 combinations, to be changed."""
    return fabricate(classes=CLASSES[:2], sites=SITES[:2])


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = read_json(path)
    change(content)
    write_json(path, content)


@pytest.mark.slow
def test_page_needs_no_network(whole: tuple[str, Outline]) -> None:
    """P10: nothing is loaded from anywhere; links stay on the page or hold their data."""
    html, outline = whole
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    assert "url(//" not in html
    assert "@import" not in html
    for address in [*outline.values("href"), *outline.values("src")]:
        assert address.startswith(("#", "data:")), address
    assert outline.tags.count("script") == 1


@pytest.mark.slow
def test_page_is_whole_and_small(whole: tuple[str, Outline]) -> None:
    html, outline = whole
    assert outline.open == []
    assert len(html.encode()) < 10_000_000
    assert outline.tags.count("svg") == outline.tags.count("figure") == FIGURES


@pytest.mark.slow
def test_every_figure_has_a_text_and_its_data(whole: tuple[str, Outline]) -> None:
    html, outline = whole
    described = [value for tag, name, value in outline.attributes if (tag, name) == ("div", "aria-label")]
    assert len([text for text in described if len(text) > 60]) >= FIGURES
    assert html.count("Data of this figure") == FIGURES
    assert "real only 0.541" in html  # the forest plot in words


@pytest.mark.slow
def test_ids_are_unique_and_found(whole: tuple[str, Outline]) -> None:
    _, outline = whole
    ids = outline.values("id")
    assert len(ids) == len(set(ids))
    targets = [value[1:] for value in outline.values("href") if value.startswith("#")]
    assert set(targets) <= set(ids)
    assert set(outline.values("aria-labelledby")) <= set(ids)


@pytest.mark.slow
def test_headings_are_in_order_and_columns_have_heads(whole: tuple[str, Outline]) -> None:
    """For those who read by ear: one h1, no level skipped, every column head scoped, the way past the header first."""
    html, outline = whole
    levels = [int(tag[1]) for tag in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert outline.tags.count("th") == outline.values("scope").count("col")
    assert outline.tags.count("caption") == outline.tags.count("table")
    assert html.index('class="skip"') < html.index("<h1")
    assert 'setAttribute("aria-sort", "none")' in html


def test_the_guard_is_an_alarm_of_its_split(small: Path) -> None:
    table = read_table(small / "tables" / "fidelity.parquet")
    mean = (table["scope"] == "combination_mean") & (table["split"] == "unseen")
    reason = "n <= d; collapse guard: medi's recall 0.30 is below floor's 0.90, 'closer' is withheld"
    found = _guard(table.assign(reason=np.where(mean, reason, "")))
    assert found == [
        "Unseen combinations: MeDi’s recall 0.30 is below that of real images, 0.90. A low distance may come from "
        "this, so which set is closer is not said."
    ]
    assert _guard(table) == []


@pytest.mark.slow
def test_names_from_metadata_are_escaped_everywhere(fabricate: Fabricate) -> None:
    """P11: a class, a site, a title, an alarm and a reason that hold markup appear as text."""
    names: dict = {"classes": (NASTY, "B"), "sites": (NASTY, "b", "c")}
    run = write_more(fabricate(**names), **names)
    edit(run / "results.json", lambda content: content.update(title=NASTY, versions={NASTY: NASTY}))
    edit(
        run / "audit" / "audit.json",
        lambda content: content.update(alarms=[NASTY], notes=[NASTY], pairs=[{NASTY: NASTY}]),
    )
    table = read_table(run / "tables" / "fidelity.parquet")
    write_table(run / "tables" / "fidelity.parquet", table.assign(reason=NASTY, value=np.nan))
    for name, column in OTHER_NAMES.items():
        table = read_table(run / "tables" / f"{name}.parquet")
        last = table[column] == table[column].iloc[-1]
        write_table(run / "tables" / f"{name}.parquet", table.assign(**{column: table[column].where(~last, NASTY)}))
    html, outline = page(run)
    assert SCRIPT not in html
    assert "<img" not in html
    assert outline.tags.count("script") == 1
    assert not [name for _, name, _ in outline.attributes if name.startswith("on")]
    assert outline.text.count(NASTY) >= 10
    assert "$" in "".join(outline.text)


@pytest.mark.slow
def test_script_is_named_by_its_hash(whole: tuple[str, Outline]) -> None:
    """P11: even an escape that failed could not run: only our script's hash is allowed, and no connection at all."""
    _, outline = whole
    policy = next(value for value in outline.values("content") if "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "unsafe-inline'; script" in policy  # styles only


@pytest.mark.slow
def test_every_n_is_shown(whole: tuple[str, Outline]) -> None:
    _, outline = whole
    assert (
        "Frames mark held-out combinations. They are shown as they were before the hold-out." in outline.text
    )  # the audit counts the whole cohort
    for n in ("421", "409", "22", "21", "4,511", "9,216", "611", "64", "6,103", "241", "127", "402"):
        assert n in outline.text, n
    for name in (*CLASSES, *SITES):
        assert name in outline.text


@pytest.mark.slow
def test_headlines_are_those_of_results_json(small: Path) -> None:
    """The primary endpoint, the gain where one may be claimed, and the distance, each beside its n."""
    reached, gain, distance = headlines(read(small))
    assert (reached.value, reached.beside) == (
        "0.87",
        "[0.83, 0.9] · real only 0.68 · chance 0.25 · n = 830 patches",
    )
    assert (gain.value, gain.beside) == (
        "+0.19",
        "difference 0.190 [0.160, 0.220] · over pure noise 0.210 [0.180, 0.240]",
    )
    assert distance.beside.startswith("CLS ")
    table = read_table(small / "tables" / "utility.parquet")
    noise = table.assign(low=table["low"].where(table["against"] != "pure_noise", -0.1))
    write_table(small / "tables" / "utility.parquet", noise)
    assert headlines(read(small))[1].value == "none"


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_first_screen_has_every_training_set_and_chance(small: Path) -> None:
    """P13: every remedy stands beside the generated images, noise and chance too."""
    _, outline = page(small)
    shown = outline.text.index("Mean recall over combinations, by training set")
    assert shown < outline.text.index("How close are the images to real ones?", shown)
    for name in ("+ pure noise", "real only", "+ MeDi", "+ CLS", "chance"):
        assert name in outline.text[shown:]


@pytest.mark.slow
def test_undefined_numbers_are_dashes_with_their_reason(small: Path) -> None:
    """P7: null in results.json and NaN in the tables are never 0."""
    nothing = dict.fromkeys(("real", "cls", "medi", "oracle", "floor"))

    def empty(content: dict) -> None:
        both = {"seen": nothing, "unseen": nothing}
        content.update(gap_closed=None, balanced_accuracy=both, frechet=both, phantom=None)

    edit(small / "results.json", empty)
    for name in ("fidelity", "utility"):
        table = read_table(small / "tables" / f"{name}.parquet")
        table = table.assign(value=np.nan, low=np.nan, high=np.nan, reason="one class only")
        write_table(small / "tables" / f"{name}.parquet", table)
    _, outline = page(small)
    assert "one class only" in outline.text
    assert "is not known (one class only)" in outline.text
    assert "– (one class only)" in outline.text
    assert "nan" not in outline.text.lower().split()


@pytest.mark.slow
def test_patches_that_belong_to_no_combination_are_counted(small: Path) -> None:
    """A mean over combinations leaves them out, and the page says how many."""
    path = small / "tables" / "utility.parquet"
    assert "belong" not in " ".join(utility(read(small)).text)
    note = "12 patches of unknown site belong to no combination"
    table = read_table(path)
    table.loc[(table["metric"] == "mean_recall") & (table["split"] == "all"), "reason"] = f"{note}; and more"
    write_table(path, table)
    assert f"{note}; means over combinations leave them out." in utility(read(small)).text


PARTS: dict[str, tuple[Callable[[Run], Section], str]] = {
    "tables/utility.parquet": (utility, "No classifier has been trained yet"),
    "tables/memorisation.parquet": (memorisation, "The images have not been tested for memorisation yet"),
    "tables/control.parquet": (control, "No probe has looked at the images"),
    "tables/fidelity.parquet": (fidelity, "No distances have been measured yet"),
    "tables/training.parquet": (training, "No model has been trained yet"),
    "holdout": (holdout, "No combinations have been held out yet"),
    "sheet": (samples, "No images have been sampled yet"),
    "results.json": (settings, "The study is not finished"),
}


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.slow
def test_a_stage_that_has_not_run_is_said(small: Path) -> None:
    """One part after another goes, down to the audit alone; each section says what is missing, and the page stands."""
    write_more(small, classes=CLASSES[:2], sites=SITES[:2])
    for part, (section, text) in PARTS.items():
        remove(small / part)
        assert text in "".join(section(read(small)).text)
    _, outline = page(small)
    assert [text for _, text in PARTS.values() if text not in outline.text] == []
    assert outline.tags.count("svg") == 1
    assert "Asterand" in outline.text


@pytest.mark.slow
def test_a_run_of_the_first_stage_has_a_page(small: Path) -> None:
    """What later stages add may all be missing: the page is that of a study without control, copies and curves."""
    html, outline = page(small)
    assert "No probe has looked at the images" in outline.text
    assert "not been tested for memorisation" in outline.text
    assert outline.tags.count("svg") == 9
    assert page(small)[0] == html  # the same tables give the same page, byte for byte


def test_a_run_without_audit_says_so(small: Path) -> None:
    remove(small / "audit")
    assert audit(read(small)).text == ["The cohort has not been audited yet."]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_another_attribute_takes_its_own_name(small: Path) -> None:
    edit(small / "results.json", lambda content: content["settings"].update(attribute="scanner"))
    certificate = small / "holdout" / "certificate.json"
    edit(certificate, lambda content: content.update(columns=["class", "scanner"]))
    counts = read_table(small / "audit" / "counts.parquet")
    write_table(small / "audit" / "counts.parquet", counts.assign(attribute="scanner"))
    for name in ("tables/fidelity", "tables/utility", "sheet/table"):
        path = small / f"{name}.parquet"
        write_table(path, read_table(path).rename(columns={"site": "scanner"}))
    _, outline = page(small)
    assert "class and scanner" in outline.text
    assert "Patches per class and scanner" in outline.text


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_several_attributes_are_crossed_as_one(small: Path) -> None:
    """A real cohort held out by class, site and group: each joint level is a row, and its frame finds it."""
    certificate = small / "holdout" / "certificate.json"
    held = [["COAD", "Christiana", "a"]]
    edit(certificate, lambda content: content.update(columns=["class", "site", "group"], held_out=held))
    edit(small / "results.json", lambda content: content.pop("phantom"))
    for name in ("tables/fidelity", "tables/utility", "sheet/table"):
        path = small / f"{name}.parquet"
        table = read_table(path)
        write_table(path, table.assign(group=np.where(table["site"] == "", "", "a")))
    run = read(small)
    assert run.attribute == "site × group"
    assert run.framed == {("COAD", "Christiana × a")}
    assert "Christiana × a" in page(small)[1].text


def test_a_whole_level_held_out_counts_for_every_class(small: Path) -> None:
    edit(
        small / "holdout" / "certificate.json",
        lambda content: content.update(columns=["site"], held_out=[["Asterand"]]),
    )
    assert read(small).framed == {("COAD", "Asterand"), ("LUAD", "Asterand")}


def test_a_page_counts_patients_on_two_sides_and_names_none(small: Path) -> None:
    """Defect: names of the certificate of a split that came with the data stood on the page."""
    leaks = [{"unit": "patient", "sides": ["test", "train"], "names": ["Doe", "Roe"]}]
    edit(small / "holdout" / "certificate.json", lambda content: content.update(leaks=leaks))
    facts = read(small).certificate.facts
    assert facts["patients in test and train"] == 2
    assert "Doe" not in str(facts)


@pytest.mark.slow
def test_a_cohort_without_oracle_and_floor_has_a_page(small: Path) -> None:
    """Real cohorts have no fresh patches of unseen combinations."""

    def without(content: dict) -> None:
        for split in ("seen", "unseen"):
            content["balanced_accuracy"][split].pop("oracle")
            content["frechet"][split].pop("floor")
        content.pop("phantom")

    edit(small / "results.json", without)
    for name, arm in (("fidelity", "floor"), ("utility", "oracle")):
        table = read_table(small / "tables" / f"{name}.parquet")
        write_table(small / "tables" / f"{name}.parquet", table[table["arm"] != arm])
    assert headlines(read(small))[1].value == "+0.19"
    _, outline = page(small)
    assert "real vs real" not in outline.text
    assert "oracle 0" not in outline.text


@pytest.mark.slow
def test_each_task_has_its_own_figures(small: Path) -> None:
    """Classifiers on two choices of classes never share a figure; the sentences are about the first."""
    path = small / "tables" / "utility.parquet"
    table = read_table(path)
    write_table(path, pd.concat([table.assign(task="nsclc"), table.assign(task="uterine", value=0.1)]))
    run = read(small)
    assert run.tasks == ["nsclc", "uterine"]
    assert set(run.of_task("uterine").utility["value"]) == {0.1}
    titles = [block.title for block in utility(run).blocks]
    assert "Mean recall over combinations by training set: nsclc" in titles
    assert "Mean recall over combinations by training set: uterine" in titles


def test_licences_are_named_or_their_absence_is() -> None:
    assert "Apache-2.0" in licences(Results(phantom="9f31"))["data"]
    assert "not stated" in licences(Results())["data"]
    named = licences(Results(licences={"data": "CC0"}, encoder={"name": "uni", "licence": "CC-BY-NC-ND 4.0"}))
    assert named == {"data": "CC0", "encoder uni": "CC-BY-NC-ND 4.0"}


def test_an_empty_folder_and_a_newer_format_are_errors(small: Path, tmp_path: Path) -> None:
    with pytest.raises(MediError, match="no results of a study here"):
        build(tmp_path)
    edit(small / "results.json", lambda content: content.update(format_version=2))
    with pytest.raises(MediError, match="newer"):
        build(small)


@pytest.mark.slow
def test_long_tables_are_cut_and_the_csv_holds_all(small: Path, tmp_path: Path) -> None:
    table = read_table(small / "tables" / "training.parquet")
    run = tmp_path / "training"
    write_table(run / "tables" / "training.parquet", pd.concat([table] * 5, ignore_index=True))
    _, outline = page(run)
    assert "The first 200 of 600 rows" in outline.text
    csv = next(value for value in outline.values("href") if "images_per_second" in value)
    assert csv.count("%0A") == 601


def test_a_csv_of_the_page_runs_nothing_in_a_spreadsheet_p11() -> None:
    """Levels that look like formulas stay text; negative numbers stay numbers."""
    table = table_of("t", pd.DataFrame({"=site": ["=cmd|' /C calc'!A0", "@x", "-"], "n": [-0.5, 1.0, 2.0]}))
    lines = unquote(table.csv.partition(",")[2]).splitlines()
    assert lines == ["'=site,n", "'=cmd|' /C calc'!A0,-0.5", "'@x,1", "'-,2"]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_text_colour_can_be_read(scheme: int) -> None:
    """WCAG AA: text and arms contrast at least 4.5 : 1 with the page and with the summary's panel."""
    css = (HERE / "report.css").read_text(encoding="utf-8")
    block = re.findall(r":root \{(.*?)\}", css, flags=re.DOTALL)[scheme]
    colors = dict(re.findall(r"--([a-z-]+): #([0-9a-f]{6})", block))
    assert {*figures.COLORS, "page", "panel", "link", "alarm"} <= set(colors)
    assert scheme or {name: f"#{colors[name]}" for name in figures.COLORS} == figures.COLORS
    pairs = [(text, ground) for text in {*figures.COLORS, "link"} - {"line"} for ground in ("page", "panel")]
    for text, ground in [*pairs, ("alarm", "alarm-panel"), ("ink", "alarm-panel")]:
        assert contrast(colors[text], colors[ground]) >= 4.5, f"{text} on {ground}"


def contrast(a: str, b: str) -> float:
    """WCAG 2 contrast ratio of two colours rrggbb."""
    dark, light = sorted(luminance(color) for color in (a, b))
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.slow
def test_a_study_without_cls_does_not_ask_for_it(small: Path, request: pytest.FixtureRequest) -> None:
    """Defect: the page of a study done verb by verb showed "CLS –" and "n = 0" for a model that was never trained."""
    write_more(small, CLASSES[:2], SITES[:2])
    tables = small / "tables"
    shutil.rmtree(small / "suspects")
    for path in tables.glob("*.parquet"):
        table = read_table(path)
        named = [column for column in ("arm", "against", "model") if column in table]
        write_table(path, table[~table[named].eq("cls").any(axis=1)])
    edit(small / "results.json", lambda content: [part.pop("cls") for part in content["frechet"].values()])
    sheet = Cohort.load(small / "sheet")
    sheet.where(source=["real", "medi"]).save(small / "sheet")
    _, outline = page(small)
    assert "CLS" not in outline.text
    assert "The mean Fréchet distance on unseen combinations is" in outline.text
    assert "Fréchet distance of MeDi’s images, unseen combinations" in outline.text
    for path in tables.glob("fidelity.parquet"):
        write_table(path, read_table(path).assign(value=np.nan, n_real=0, reason="too few images"))
    edit(small / "results.json", lambda content: content.update(frechet={}))
    assert not [one for one in headlines(read(small)) if "distance" in one.name]
    request.getfixturevalue("no_pictures")
    assert "on unseen combinations is not known (too few images)" in page(small)[1].text
