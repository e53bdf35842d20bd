"""The report as a colleague opens it: from disk, without network, readable, and reachable by keyboard."""

from pathlib import Path

import pytest
from driving import Browser

from medi.report.page import build
from tiny_run import EVIL

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three sites, one of which would love to be code."""
    from fabricated import SITES, write_run

    return build(write_run(tmp_path_factory.mktemp("report") / "run", sites=(*SITES[:2], EVIL)))


def test_it_opens_from_disk_without_errors_or_requests(browser: Browser, report: Path) -> None:
    browser.open(report.as_uri())
    browser.one("main section")
    browser.keep("report-light")
    browser.dark(True)
    browser.keep("report-dark")
    browser.dark(False)
    assert browser.messages() == []
    assert browser.requests() == {report.as_uri()}
    assert browser.driver.execute_script("return window.hacked") is None, "names never become code (P11)"


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(dark: bool, browser: Browser, report: Path) -> None:
    browser.open(report.as_uri())
    browser.dark(dark)
    try:
        assert browser.audit() == []
    finally:
        browser.dark(False)


def test_tables_are_sorted_by_keyboard(browser: Browser, report: Path) -> None:
    browser.open(report.as_uri())
    for details in browser.all("details"):
        browser.driver.execute_script("arguments[0].open = true", details)
    button = browser.one("th button")
    button.send_keys("\n")
    assert browser.all("th[aria-sort='ascending'], th[aria-sort='descending']")
