"""A real browser: Debian's chromium and its driver; without them these tests are skipped with a clear word."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from driving import ROOT, Browser, serving

import tiny_run
from real_processes import preload

sys.path.append(str(ROOT / "tests" / "report"))  # its fabricated run
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
PACKAGES = ("selenium", "gradio", "axe_core_python")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,1250",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = [name for name in PACKAGES if find_spec(name) is None]
    lacking += [] if CHROMIUM and DRIVER else ["chromium, chromium-driver (Debian packages)"]
    if not lacking:
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"no browser tests: lacks {', '.join(lacking)}"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(service=Service(str(DRIVER)), options=options)
        driver.set_script_timeout(60)
        yield Browser(driver)
        driver.quit()


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run.write_run(tmp_path_factory.mktemp("browser") / "run")


@pytest.fixture(scope="session")
def app(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    preload("medi.app.page")
    with serving(run_folder, tmp_path_factory.mktemp("elsewhere")) as (url, _):
        yield url
