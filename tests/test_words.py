"""The words of the glossary are used everywhere: no private ones in the package, README and docs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted((ROOT / "src" / "medi").rglob("*.py"))
PRIVATE = {  # pattern -> what the glossary says
    r"\bobedien\w+": "class or site as asked",
    r"\bcarried\b": "translated patches",
    r"\bheld against\b": "compared with",
    r"\bcells?\b": "combination",
    r"\bweaker? model\b": "autoguidance",
    r"\bfree arms?\b": "baseline that needs no generator",
}
BIOLOGY = ("blood cell", "spindle cell", "tumour cell", "cell border", "cell outline", "mitotic", "nuclei", "cytoplasm")
OLD_NAMES = ("src/medi/core/tables.py", "src/medi/report/stress.py", "docs/lab-notes/", "CHANGELOG.md")


def lines_with(pattern: str, path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [line for line in lines if re.search(pattern, line, re.IGNORECASE)]
    return [line.strip() for line in found if not any(word in line.lower() for word in BIOLOGY)]


@pytest.mark.parametrize("pattern", PRIVATE)
def test_no_private_word(pattern: str) -> None:
    """Files that read what version 0.1 wrote, and the lab notes, may name its words."""
    places = [path for path in (*PAGES, *SOURCES) if not str(path.relative_to(ROOT)).startswith(OLD_NAMES)]
    found = {str(path.relative_to(ROOT)): lines for path in places if (lines := lines_with(pattern, path))}
    assert not found, f"say {PRIVATE[pattern]!r}"


def test_the_glossary_explains_every_word_in_its_place() -> None:
    glossary = (ROOT / "docs" / "explanation" / "glossary.md").read_text(encoding="utf-8").lower()
    for word in ("combination", "hold-out", "as asked", "memorisation", "autoguidance", "translated", "head", "floor"):
        assert word in glossary
