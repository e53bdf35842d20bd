"""A browser with what its tests ask again and again, and the app as a process of its own."""

import json
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from medi.app.serve import OFFLINE
from real_processes import app_into, begin, ended

ROOT = Path(__file__).parents[2]
ARTEFACTS = ROOT / "test-artefacts" / "browser"
ALIKE = """
for (const table of document.querySelectorAll('tbody')) {
  const seen = new Set();
  for (const row of table.querySelectorAll(':scope > tr')) {
    const form = row.outerHTML.replace(/(data-key)="[^"]*"/g, '$1').replace(/>[^<]+/g, '>words');
    seen.has(form) ? row.remove() : seen.add(form);
  }
}"""  # rows that differ from one above them in their words and numbers alone are gone


class Browser:
    """A driver with what these tests ask again and again."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get("about:blank")
        self.messages()
        self.requests()
        self.driver.get(url)

    def until(self, condition: Callable[[], Any], seconds: float = 300) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(self.driver, seconds, 0.1, (StaleElementReferenceException, IndexError))
        return wait.until(lambda _: condition())

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.until(lambda: self.all(selector)[0])

    def click(self, selector: str) -> None:
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.one(selector))
        self.one(selector).click()

    def text(self, selector: str) -> str:
        return self.one(selector).text

    def sources(self, selector: str) -> list[str]:
        return [image.get_attribute("src") for image in self.all(f"{selector} img")]

    def alts(self, selector: str) -> list[str]:
        return [image.get_attribute("alt") for image in self.all(f"{selector} img")]

    def messages(self) -> list[str]:
        """Errors of the console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requests(self) -> set[str]:
        """URLs asked for since the last call, data aside."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
        return {url for url in urls if not url.startswith(("data:", "about:", "chrome"))}

    def dark(self, on: bool) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def narrow(self, width: int | None) -> None:
        """As on a phone of this width; None: as before."""
        if width is None:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
            return
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def is_wide(self) -> bool:
        """Whether a person must scroll sideways to see all of the page."""
        return self.driver.execute_script("const e = document.documentElement; return e.scrollWidth > e.clientWidth")

    def keep(self, name: str) -> None:
        """A picture of the page among the test's artefacts."""
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(ARTEFACTS / f"{name}.png"))

    def audit(self) -> list[str]:
        """Serious and critical findings of axe, as "rule: element"; of rows that are alike the first is looked at."""
        import axe_core_python

        self.driver.execute_script(ALIKE)
        self.driver.execute_script((Path(axe_core_python.__file__).parent / "axe.min.js").read_text())
        run = "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(done)"
        found = self.driver.execute_async_script(run)["violations"]
        serious = [rule for rule in found if rule["impact"] in ("serious", "critical")]
        return [f"{rule['id']}: {node['html'][:160]}" for rule in serious for node in rule["nodes"]]


@contextmanager
def serving(run: Path | None, folder: Path) -> Iterator[tuple[str, BaseProcess]]:
    """`medi app RUN` as a process of its own, in a new folder of `folder`, and its URL."""
    said = Path(tempfile.mkdtemp(dir=folder)) / "said.txt"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OFFLINE.items():  # as the app sets them before it loads gradio
            patch.setenv(name, value)
        process = begin(app_into, said, *([run] if run else []), NO_COLOR="1")
    try:
        yield url_of(process, said), process
    finally:
        process.terminate()
        assert ended(process, 30) is not None, "the app does not end"


def url_of(process: BaseProcess, said: Path) -> str:
    """The address that the app prints once it serves."""
    while process.is_alive():
        text = said.read_text(encoding="utf-8") if said.exists() else ""
        if found := re.search(r"open (http://\S+) in a browser", text):
            return found[1].rstrip("/")
        time.sleep(0.05)
    raise AssertionError(f"the app did not start: {said.read_text(encoding='utf-8')}")
