"""One meaning for each word: words that only we understand occur neither in the package nor on its pages.

docs/explanation/glossary.md has the words in their place. The changelog is left out: it names what was renamed.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WRITTEN = (".py", ".yaml", ".html", ".js", ".css", ".md")
PRIVATE = {  # what must not occur -> the word in its place
    r"carried|carrying": "translated",
    r"obedien|obey": "as asked",
    r"\brefer(s|red|ring)?\b": "reference set",
    r"held (it )?against": "compared with",
    r"(?<![\w-])free(?! of\b)(?![\w-])": "that needs no generator, or costs nothing",
    r"weak": "autoguidance, or an earlier model",
    r"[Cc]opying": "memorisation",
    r"(?<![a-z])cells?(?![a-z])|Cells?(?![a-z])": "combination",
    r"[Ll]ength of (the )?training": "number of training images drawn",
}
BIOLOGY = (
    r"cell (outline|border)|the cell:|the cell's|around (its|the) cells|cartoon-like cells|"
    r"[Cc]ell_(carcinoma|Tumors)|renal_.*cell|B-cell|[Ww]hite blood cells"
)
ALLOWED = {  # file -> what a line that may hold such a word has
    "src/medi/cohort/pixels.py": "free space",
    "src/medi/cohort/readers/spreadsheets.py": r"[Cc]ell",  # of a sheet
    "src/medi/cohort/tcga.py": BIOLOGY,  # names of tumours
    "src/medi/cli/app.py": "first free one",  # a port
    "src/medi/core/files.py": "free space",
    "src/medi/core/tables.py": r"OLD_METRICS|COUNTS\), \"copying\"|>>> old = ",  # tables of version 0.1
    "src/medi/evaluation/memorisation.py": r"key=\(\"copying\"",  # seeds as in version 0.1
    "src/medi/export/export.py": "free space",
    "src/medi/report/report.js": r"\.cells|cell\.(dataset|textContent)",  # of a table
    "src/medi/report/stress.py": r"OLD_VIEWS|content\[\"carried\"\]",  # pages of version 0.1
    "src/medi/sampling/generate.py": r"RENAMED|guidance.*\"weak\"|\"weak\" in guidance",  # folders of version 0.1
    "src/medi/study/studies/wbc.yaml": BIOLOGY,
    "docs/how-to/studies.md": BIOLOGY,
    "README.md": BIOLOGY,
    "src/medi/study/settings.py": r"OLD_ARMS|\"guidance\", \"weak\"",  # study files of version 0.1
    "docs/how-to/real-cohorts.md": "Merged cells|what the cell holds",  # of a sheet
    "docs/results.md": rf"{BIOLOGY}|--per-cell",  # an option of a benchmark
    "docs/lab-notes/ami-br.md": BIOLOGY,
}


def texts() -> list[Path]:
    package = [path for path in (ROOT / "src" / "medi").rglob("*") if path.suffix in WRITTEN]
    return [*sorted(package), ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def found(path: Path, pattern: str) -> list[str]:
    """The lines of a file that hold a word, those that are allowed left out."""
    name = path.relative_to(ROOT).as_posix()
    allowed = ALLOWED.get(name, r"(?!)")
    lines = [
        (number, line.strip())
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(pattern, line) and not re.search(allowed, line)
    ]
    return [f"{name}:{number}: {line}" for number, line in lines]


@pytest.mark.parametrize("pattern", PRIVATE, ids=lambda pattern: PRIVATE[pattern])
def test_private_words_do_not_occur(pattern: str) -> None:
    lines = [line for path in texts() for line in found(path, pattern)]
    assert not lines, f"write {PRIVATE[pattern]!r}:\n" + "\n".join(lines)


def test_the_glossary_has_the_words_in_their_place() -> None:
    page = (ROOT / "docs" / "explanation" / "glossary.md").read_text(encoding="utf-8")
    for word in (
        *("combination", "unseen combination", "hold-out", "translated patches", "reference set", "real-vs-real floor"),
        *("baseline that needs no generator", "as asked", "memorisation", "autoguidance", "head", "training set"),
        *("number of training images drawn", "primary endpoint"),
    ):
        assert f"| {word} |" in page, word
