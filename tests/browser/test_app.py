"""The app as a person meets it: choose, generate, stop, switch the site, translate a patch, drop a table; and what it
must never do: fetch, serve or read anything that is not its own (P10, P11)."""

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from driving import Browser, serving
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

import tiny_run
from medi.core.files import read_json, write_json

pytestmark = [pytest.mark.usefixtures("app"), pytest.mark.slow]
TABS = range(4)
STOP_AT_ONCE = """
new MutationObserver((changes, observer) => {
  if (!document.querySelector("#status").innerText.includes("sampling")) return;
  observer.disconnect();
  document.querySelector("#stop-generate").click();
}).observe(document.body, {subtree: true, childList: true, characterData: true});
"""  # the images of a tiny network are there before another process can say stop


@pytest.fixture
def page(browser: Browser, app: str) -> Browser:
    browser.open(app)
    browser.until(lambda: browser.sources("#real"))
    return browser


def tab(page: Browser, number: int) -> None:
    page.until(lambda: page.all("button[role=tab]")[number]).click()


def another(run: Path, folder: Path) -> Path:
    """The run again, without what the app that serves it keeps there."""
    return shutil.copytree(run, folder / "run", ignore=shutil.ignore_patterns(".*"))


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
    assert page.messages() == []
    assert {url.split("?")[0] for url in page.requests() if not url.startswith(app)} == set()
    assert page.driver.execute_script("return window.hacked") is None
    assert tiny_run.EVIL in page.text("#head"), "a name is shown as it is written"


def test_choose_generate_switch_site(page: Browser) -> None:
    real, first = page.sources("#real"), generate(page)
    assert len(first) == 16
    assert "distance" in page.text("#nearest")
    page.keep("app-generated")
    page.click("#map button[data-place='0,0']")
    page.until(lambda: "LUAD × NA" in page.text("#status"))
    assert "training patches" in page.text("#status")
    page.until(lambda: page.sources("#real") != real)
    second = generate(page)
    assert second != first
    assert page.messages() == []


def test_a_mix_of_two_sites(page: Browser) -> None:
    page.one("#mix input").click()
    page.until(lambda: [option for option in page.all("[role=option]") if option.text == "NA"])[0].click()
    page.until(lambda: "mixed with" in page.text("#status"))
    assert {"LUSC × Rowan", "LUSC × NA"} <= {alt[6:].split(" × grade")[0] for alt in page.alts("#real")}
    half = generate(page)
    slider = page.one("#share input[type=range]")
    slider.send_keys(Keys.END)
    page.until(lambda: "mixed with" not in page.text("#status"))
    assert generate(page) != half


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
    page.one("#solver input").click()
    page.until(lambda: [option for option in page.all("[role=option]") if option.text.startswith("Heun")])[0].click()
    page.driver.execute_script(STOP_AT_ONCE)
    page.click("#generate")
    page.until(lambda: "stopped" in page.text("#status"))


def test_one_patch_across_hospitals(page: Browser) -> None:
    tab(page, 1)
    page.click("#translate")
    page.until(lambda: len(page.sources("#stops")) == 3)
    there = page.sources("#translation")
    slider = page.one("#share-across input[type=range]")
    slider.send_keys(Keys.HOME)
    page.until(lambda: page.sources("#translation")[1] != there[1])
    assert page.sources("#translation")[0] == there[0], "the patch itself stays"
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
    page.until(lambda: len(page.sources("#learned")) == 8, 300)
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
    page.until(lambda: tiny_run.EVIL in page.text("#audit"))
    assert "site gives the class away: without the image" in page.text("#audit")
    assert page.driver.execute_script("return window.hacked") is None
    page.keep("app-table")
    kept = [path for path in run_folder.rglob("*") if path.is_file() and b"LUAD" in path.read_bytes()]
    assert not [path for path in kept if ".app-" in str(path) and path.suffix == ".csv"], "nothing is kept"
    assert page.messages() == []


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious_in_any_tab(dark: bool, browser: Browser, app: str) -> None:
    browser.dark(dark)
    try:
        browser.open(app)
        browser.until(lambda: browser.sources("#real"))
        found = {}
        for number in TABS:
            tab(browser, number)
            browser.keep(f"app-tab-{number}-{'dark' if dark else 'light'}")
            found[number] = browser.audit()
        assert found == {number: [] for number in TABS}
    finally:
        browser.dark(False)


def test_400_px_are_enough_for_every_tab(page: Browser) -> None:
    for number in TABS:
        tab(page, number)
        page.narrow(400)
        try:
            page.until(lambda: not page.is_wide(), 30)
            for box in page.all(".panel, .controls, #head, .buttons button"):
                if box.is_displayed():
                    assert box.rect["x"] + box.rect["width"] <= 400, box.get_attribute("class")
            page.keep(f"app-narrow-{number}")
        finally:
            page.narrow(None)


def test_pictures_can_be_saved_and_the_report_is_linked(page: Browser, app: str, run_folder: Path) -> None:
    links = [link.get_attribute("download") for link in page.all("#real a.save, #map a.save")]
    assert links == ["counts.csv", "Real.png"]
    assert not page.all("#head .verdict"), "the study has no report and no verdict yet"
    assert answer(f"{app}/report")[0] == 404


def test_a_study_says_its_verdict_and_links_its_report(browser: Browser, run_folder: Path, tmp_path: Path) -> None:
    run = another(run_folder, tmp_path)
    results = read_json(run / "results.json")
    write_json(run / "results.json", results | {"verdict": [f"No gain {tiny_run.EVIL}"]})
    (run / "report.html").write_text("<h1>the page of the study</h1>")
    with serving(run, tmp_path) as (url, _):
        browser.open(url)
        assert browser.until(lambda: browser.text(".verdict")).startswith(f"No gain {tiny_run.EVIL}")
        assert answer(browser.one(".verdict a").get_attribute("href")) == (200, "<h1>the page of the study</h1>")
        assert answer(f"{url}/report/../study.yaml")[0] >= 400


def test_a_model_alone_and_a_table_alone(browser: Browser, run_folder: Path, tmp_path: Path) -> None:
    with serving(run_folder / "models" / "medi", tmp_path) as (url, _):
        browser.open(url)
        browser.until(lambda: "never seen in training" in browser.text("#status"))
        browser.click("#generate")
        browser.until(lambda: "new images" in browser.text("#status"))
        assert len(browser.sources("#generated")) == 16
        assert not browser.all("#real img")
        assert browser.messages() == []
        browser.keep("app-model")
    with serving(None, tmp_path) as (url, _):
        browser.open(url)
        browser.until(lambda: "Drop a table" in browser.text("#audit"))
        assert browser.messages() == []


def test_tab_reaches_the_controls(page: Browser) -> None:
    """Map, lists and buttons without a mouse; Enter on a cell chooses it."""
    remember = "document.addEventListener('focusin', e => reached.push(e.target.id || e.target.dataset.place))"
    page.driver.execute_script(f"document.activeElement.blur(); window.reached = []; {remember}")
    ActionChains(page.driver).send_keys(Keys.TAB * 40).perform()
    reached = page.driver.execute_script("return reached")
    assert {"0,0", "1,2", "generate", "stop-generate"} <= set(reached), reached
    page.one("#map button[data-place='0,2']").send_keys(Keys.ENTER)
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
    secret.write_text("what-only-the-file-says")
    for path in ("/etc/passwd", secret, run_folder / "study.yaml", run_folder / ".." / "secret.txt", "study.yaml"):
        for way in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/"):
            code, text = answer(f"{app}{way}{path}")
            assert code >= 400, (way, path)
            assert "what-only" not in text
            assert "root:" not in text


def event(app: str, number: int, data: list[object], session: str) -> str:
    """What the server says to an event, sent as the page sends it."""
    body = {"data": data, "fn_index": number, "session_hash": session, "event_data": None, "trigger_id": None}
    code, text = answer(f"{app}/gradio_api/queue/join", body)
    return text if code >= 400 else answer(f"{app}/gradio_api/queue/data?session_hash={session}")[1]


def upload(app: str, path: Path) -> str:
    """The server's own name of an uploaded file."""
    mark = "medi-boundary"
    head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'
    content = head.encode() + path.read_bytes() + f"\r\n--{mark}--\r\n".encode()
    types = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    with urllib.request.urlopen(urllib.request.Request(f"{app}/gradio_api/upload", content, types)) as reply:
        return json.load(reply)[0]


def test_a_request_cannot_name_a_file_to_read(app: str, run_folder: Path) -> None:
    """A client may claim to have uploaded any path: every event that takes a file refuses all but uploads."""
    secret = run_folder.parent / "secret.csv"
    secret.write_text("patch,label,site\na,SECRET,x\nb,SECRET2,y\n")
    config = json.loads(answer(f"{app}/config")[1])
    files = {c["id"]: c["props"].get("file_count") == "multiple" for c in config["components"] if c["type"] == "file"}
    events = [d for d in config["dependencies"] if d["backend_fn"] and set(d["inputs"]) & set(files)]
    assert len(events) >= 4

    def tried(path: str) -> str:
        claimed = {"path": path, "meta": {"_type": "gradio.FileData"}}
        given = [[([claimed] if files[i] else claimed) if i in files else None for i in e["inputs"]] for e in events]
        return "".join(event(app, e["id"], data, f"thief{e['id']}") for e, data in zip(events, given))

    assert "SECRET2" in tried(upload(app, secret)), "an upload is read"
    for path in (secret, run_folder / "study.yaml", "../secret.csv"):
        assert "SECRET" not in tried(str(path))


def test_it_listens_to_this_machine_alone(app: str) -> None:
    assert app.startswith("http://127.0.0.1:")


def test_what_it_wrote_is_gone_when_it_ends(run_folder: Path, tmp_path: Path) -> None:
    run = another(run_folder, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with serving(run, tmp_path) as (url, process):
        assert answer(url)[0] == 200
        assert list(run.glob(".app-*"))
    assert process.exitcode == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
