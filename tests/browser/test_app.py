"""The app as a person meets it: choose, generate, stop, switch the site, carry a patch, drop a table; and what it
must never do: fetch, serve or read anything that is not its own (P10, P11)."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from driving import Browser, serving
from PIL import Image
from selenium.webdriver.common.keys import Keys

import tiny_run

pytestmark = pytest.mark.usefixtures("app")


@pytest.fixture
def page(browser: Browser, app: str) -> Browser:
    browser.open(app)
    browser.until(lambda: browser.sources("#real"))
    return browser


def tab(page: Browser, number: int) -> None:
    page.until(lambda: page.all("button[role=tab]")[number]).click()


def generate(page: Browser) -> list[str]:
    before = page.sources("#generated")
    page.click("#generate")
    page.until(lambda: "new images" in page.text("#status"))
    page.until(lambda: len(page.sources("#nearest")) == 16 and page.sources("#generated") != before)
    return page.sources("#generated")


def test_the_first_look(page: Browser, app: str) -> None:
    """It opens on what training never saw, says so, and asks nobody else for anything."""
    assert "LUSC × Rowan" in page.text("#status")
    assert "never seen in training" in page.text("#status")
    assert "real patches that training never saw" in page.text("#real")
    assert page.one("#map button[aria-pressed=true]").get_attribute("aria-label").startswith("LUSC × Rowan: never")
    page.keep("app-light")
    page.dark(True)
    page.keep("app-dark")
    page.dark(False)
    assert page.messages() == []
    assert {url.split("?")[0] for url in page.requests() if not url.startswith(app)} == set()
    assert page.driver.execute_script("return window.hacked") is None
    assert tiny_run.EVIL in page.text("#head"), "a name is shown as it is written"


def test_choose_generate_switch_site(page: Browser) -> None:
    real, first = page.sources("#real"), generate(page)
    assert len(first) == 16
    assert "distance" in page.text("#nearest")
    page.keep("app-generated")
    page.click("#map button[data-cell='0,0']")
    page.until(lambda: "LUAD × NA" in page.text("#status"))
    assert "training patches" in page.text("#status")
    page.until(lambda: page.sources("#real") != real)
    second = generate(page)
    assert second != first
    assert page.messages() == []


def test_a_model_without_sites_hides_them(page: Browser) -> None:
    page.one("#model input").click()
    page.until(lambda: [option for option in page.all("[role=option]") if option.text.startswith("cls")])[0].click()
    page.until(lambda: not page.all("#choose-1"))
    assert "LUSC" in page.text("#status")
    assert len(generate(page)) == 16


def test_stop_ends_the_sampling(page: Browser) -> None:
    page.driver.execute_script("arguments[0].click()", page.all(".controls .label-wrap")[0])
    steps = page.one("#steps input[type=number]")
    steps.send_keys(Keys.CONTROL, "a")
    steps.send_keys("100", Keys.TAB)
    page.click("#generate")
    page.until(lambda: "sampling" in page.text("#status"))
    page.click("#stop")
    page.until(lambda: "stopped" in page.text("#status"))


def test_one_patch_across_hospitals(page: Browser) -> None:
    tab(page, 1)
    page.click("#carry")
    page.until(lambda: len(page.sources("#stops")) == 3)
    there = page.sources("#journey")
    slider = page.one("#share-across input[type=range]")
    slider.send_keys(Keys.HOME)
    page.until(lambda: page.sources("#journey")[1] != there[1])
    assert page.sources("#journey")[0] == there[0], "the patch itself stays"
    page.keep("app-patch")
    assert page.messages() == []


def test_a_new_hospital_from_dropped_patches(page: Browser, tmp_path: Path, run_folder: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths:
        Image.fromarray(rng.integers(90, 200, (tiny_run.SIZE, tiny_run.SIZE, 3), dtype=np.uint8)).save(path)
    tab(page, 2)
    page.one("#patches input[type=file]").send_keys("\n".join(map(str, paths)))
    page.until(lambda: len(page.sources("#given")) == 6)
    page.click("#learn")
    page.until(lambda: len(page.sources("#learned")) == 8)
    page.keep("app-new-level")
    assert not list((run_folder / "models").glob("*+*")), "the run's models stay as they are"
    tab(page, 0)
    page.one("#model input").click()
    page.until(lambda: [option for option in page.all("[role=option]") if "new site" in option.text])
    assert page.messages() == []


def test_a_table_is_audited_and_forgotten(page: Browser, tmp_path: Path, run_folder: Path) -> None:
    table = tmp_path / "metadata.csv"
    rows = [f"p{i},{'LUAD' if i % 2 else 'LUSC'},{'NA' if i % 2 else tiny_run.EVIL}" for i in range(40)]
    table.write_text("\n".join(["patch,label,site", *rows]))
    tab(page, 3)
    page.one("#table input[type=file]").send_keys(str(table))
    page.until(lambda: "determines the class" in page.text("#audit"))
    assert tiny_run.EVIL in page.text("#audit")
    assert page.driver.execute_script("return window.hacked") is None
    page.keep("app-table")
    kept = [path for path in run_folder.rglob("*") if path.is_file() and b"LUAD" in path.read_bytes()]
    assert not [path for path in kept if ".app-" in str(path) and path.suffix == ".csv"], "nothing is kept"
    assert page.messages() == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_axe_finds_nothing_serious(number: int, dark: bool, page: Browser) -> None:
    page.dark(dark)
    try:
        page.open(page.driver.current_url)
        page.until(lambda: page.sources("#real"))
        tab(page, number)
        assert page.audit() == []
    finally:
        page.dark(False)


def test_tab_reaches_the_controls(page: Browser) -> None:
    """Map, lists and buttons without a mouse; Enter on a cell chooses it."""
    reached = []
    page.driver.execute_script("document.activeElement.blur()")
    for _ in range(40):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        element = page.driver.switch_to.active_element
        reached.append(element.get_attribute("id") or element.get_attribute("data-cell") or element.accessible_name)
    assert {"0,0", "1,2", "generate", "stop"} <= set(reached), reached
    page.one("#map button[data-cell='0,2']").send_keys(Keys.ENTER)
    page.until(lambda: "LUAD × Rowan" in page.text("#status"))


# --- what it must never do --------------------------------------------------------------------------------------------


def answer(url: str, content: object = None) -> tuple[int, str]:
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, reply.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def test_no_file_is_served(app: str, run_folder: Path) -> None:
    """P11: neither the system's files, nor those beside the app, nor even the run's own."""
    secret = run_folder.parent / "secret.txt"
    secret.write_text("secret")
    for path in ("/etc/passwd", secret, run_folder / "study.yaml", run_folder / ".." / "secret.txt", "study.yaml"):
        for way in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/"):
            code, text = answer(f"{app}{way}{path}")
            assert code >= 400, (way, path)
            assert "secret" not in text
            assert "root:" not in text


def test_a_request_cannot_name_a_file_to_read(app: str, run_folder: Path) -> None:
    """A client may claim to have uploaded any path: every event refuses it."""
    secret = run_folder.parent / "secret.csv"
    secret.write_text("patch,label,site\na,SECRET,x\nb,SECRET2,y\n")
    config = json.loads(answer(f"{app}/config")[1])
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    uploads = {c["id"] for c in config["components"] if c["type"] == "file"}
    tried = 0
    for dependency in config["dependencies"]:
        inputs = dependency["inputs"]
        if not uploads & set(inputs):
            continue
        tried += 1
        data = [[file] if "multiple" in str(c["props"].get("file_count")) else file if c["id"] in uploads else None
                for i in inputs for c in config["components"] if c["id"] == i]  # fmt: skip
        body = {"data": data, "fn_index": dependency["id"], "session_hash": "thief"}
        code, text = answer(f"{app}/gradio_api/run/predict", body)
        assert "SECRET" not in text
        assert code >= 400 or "error" in text
    assert tried >= 3


def test_it_listens_to_this_machine_alone(app: str) -> None:
    assert app.startswith("http://127.0.0.1:")


def test_what_it_wrote_is_gone_when_it_ends(tmp_path: Path) -> None:
    run = tiny_run.write_run(tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with serving(run, tmp_path) as (url, process):
        assert answer(url)[0] == 200
        assert list(run.glob(".app-*"))
    assert process.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
