"""The app on a finished run: how long a person waits for images, a carried patch, a new site, and an audit.

python benchmarks/app.py [--run medi-demo] [--repeats 5] [--quick]

Takes a run of `medi demo`. "cold" is the first request after the start, with the model still on disk. With chromium and
its driver the same is timed in the browser, from the click to the picture on the page. The last line is JSON.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from common import figure, report
from medi.app.jobs import Tell, watch
from medi.app.making import BATCH, Made, NewLevel, Translation, Wish, learn, sample, translate
from medi.app.tables import Columns, audit_table
from medi.app.workbench import Workbench
from medi.cohort import phantom
from medi.cohort.table import Cohort
from medi.training.adaptation.learning import AdaptSettings

PATCHES = 60  # of the new site
NEW_SITE = "New"
QUICK = AdaptSettings(vector_images=64, tune_images=64)


def timed(work: Callable[[Tell], None], kind: type) -> list[tuple[float, Any]]:
    """Seconds until each result of a kind."""
    started = time.perf_counter()
    return [(time.perf_counter() - started, told) for told in watch(work, Event()) if isinstance(told, kind)]


def images(bench: Workbench, seed: int, site: str) -> tuple[float, float, float]:
    """Seconds to the first image, to all of them, and to their nearest training patches."""
    schema, settings = bench.first.schema, bench.settings.sampling
    conditions = {a.name: a.levels[0] for a in schema.conditions} | {bench.crossed: site}
    wish = Wish(bench.first.name, conditions, None, seed, settings.solver, settings.steps)
    told = timed(lambda tell: sample(bench, wish, tell), Made)
    full = next(seconds for seconds, made in told if len(made.images) == BATCH)
    return told[0][0], full, told[-1][0]


def carried(bench: Workbench, seed: int) -> float:
    site, other = bench.first.schema.attribute(bench.crossed).levels[:2]
    patch = bench.real({"class": bench.first.schema.classes.levels[0], bench.crossed: site}, 1, seed)
    assert patch is not None
    return timed(lambda tell: translate(bench.first, patch, bench.crossed, other, tell), Translation)[-1][0]


def learned(bench: Workbench, seed: int, settings: AdaptSettings | None) -> float:
    """A site in the stain of one that the model knows, from labelled patches of half of the classes."""
    combinations = [(class_, phantom.SITES[0]) for class_ in phantom.CLASSES[:2]]
    fresh = phantom.fresh(combinations, PATCHES // len(combinations), seed, "benchmark of the app", bench.first.size)
    patches = Cohort(fresh.table, bench.first.schema, fresh.pixels)
    name = f"{NEW_SITE} {seed}"

    def work(tell: Tell) -> None:
        learn(bench, bench.first, patches, bench.crossed, name, seed, bench.settings.sampling.steps, tell, settings)

    return timed(work, NewLevel)[-1][0]


def audited(bench: Workbench) -> float:
    started = time.perf_counter()
    rows = bench.whole.table.drop(columns=["sample_id"]).astype(str)
    audit_table("table.csv", rows, bench.scratch, Columns("class", "patient", [bench.crossed]))
    return time.perf_counter() - started


def in_browser(run: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds from the click on Generate to the first image and to the last one, on the page."""
    from medi.app.serve import served

    found: dict[str, list[float]] = {"first": [], "all": []}
    with served(run) as url, _driver() as driver:
        driver.get(url)
        _until(lambda: driver.find_elements("css selector", "#real img"))
        for _ in range(repeats):
            driver.execute_script(
                "window.first = window.full = 0; const start = performance.now(); window.seen?.disconnect();"
                "const place = document.querySelector('#generated'); window.seen = new MutationObserver(() => {"
                "const made = [...place.querySelectorAll('img')].filter((i) => /^generated [0-9]/.test(i.alt));"
                "if (made.length && !window.first) window.first = performance.now() - start;"
                f"if (made.length === {BATCH}) window.full = window.full || performance.now() - start;}});"
                "place.innerHTML = ''; window.seen.observe(place, {childList: true, subtree: true});"
                "document.querySelector('#generate').click();"
            )
            _until(lambda: "new images" in driver.find_element("css selector", "#status").text)
            if driver.execute_script("return window.full"):  # 0 where the observer saw no image: not measured
                found["first"].append(driver.execute_script("return window.first") / 1000)
                found["all"].append(driver.execute_script("return window.full") / 1000)
            driver.find_elements("css selector", "#map button")[0].click()
            _until(lambda: "new images" not in driver.find_element("css selector", "#status").text)
    return found


@contextmanager
def _driver() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    with tempfile.TemporaryDirectory() as profile:
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(flag)
        driver = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)
        yield driver
        driver.quit()


def _until(condition: Callable[[], Any], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.05)


def figures(run: Path, repeats: int, quick: bool) -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        bench = Workbench(run, Path(scratch))
        sites = bench.first.schema.attribute(bench.crossed).levels
        cold = images(bench, 0, sites[0])
        warm = [images(bench, seed, sites[seed % len(sites)]) for seed in range(1, repeats + 1)]
        found = {
            "first_image_cold": figure([cold[0]], "s", "<= 10", 1, f"of {BATCH}, the model still on disk"),
            "first_image": figure([w[0] for w in warm], "s", "<= 10", repeats, f"of {BATCH}"),
            "all_images": figure([w[1] for w in warm], "s", None, repeats, f"{BATCH} images"),
            "with_neighbours": figure([w[2] for w in warm], "s", None, repeats, "and nearest training patches"),
            "patch": figure([carried(bench, i) for i in range(repeats)], "s", None, repeats, "9 frames, all sites"),
            "audit": figure([audited(bench) for _ in range(repeats)], "s", None, repeats, f"{len(bench.whole):,} rows"),
        }
        seconds = [learned(bench, seed, QUICK if quick else None) for seed in range(1 if quick else 3)]
        found["new_site"] = figure(seconds, "s", "<= 60", len(seconds), f"{PATCHES} patches, samples shown")
    if not quick and shutil.which("chromium") and shutil.which("chromedriver"):
        clicks = in_browser(run, repeats)
        if n := len(clicks["all"]):
            found["browser_first_image"] = figure(clicks["first"], "s", "<= 10", n, "from the click to the page")
            found["browser_all_images"] = figure(clicks["all"], "s", None, n, "from the click to the page")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--run", type=Path, default=Path("medi-demo"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="once, a short adaptation, not in the browser")
    given = parser.parse_args()
    found = figures(given.run, 1 if given.quick else given.repeats, given.quick)
    report("app", found, ("torch", "diffusers", "gradio"))


if __name__ == "__main__":
    main()
