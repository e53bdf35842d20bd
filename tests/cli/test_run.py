"""The verb run: what it refuses, and what a dry run tells; tests/study run whole studies through it."""

from pathlib import Path

import pytest

from command_line import Medi, refused


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("plan: {too: 3}", ["plan.too: no such key; known: to, minimum", "did you mean 'to'?"]),
        ("seeed: 1", ["seeed: no such key; known: title, seed, attribute", "did you mean 'seed'?"]),
        ("training: {imags: 8}", ["training.imags: no such key; known: images", "did you mean 'images'?"]),
        ("sampling: {guidance: {intervall: 1}}", ["sampling.guidance.intervall", "did you mean 'interval'?"]),
        ("preset: demoo", ["preset 'demoo' is unknown; known: paper, demo"]),
        ("sampling: {solver: hein}", ["solver 'hein' is unknown; known: dpm_solver_2m, ddim"]),
    ],
)
def test_names_that_are_not_known_are_answered_with_known_ones(content: str, words: list[str], medi: Medi) -> None:
    Path("study.yaml").write_text(content)
    refused(medi("run", "study.yaml", "--dry-run"), "study.yaml: ", *words)


def test_a_study_that_medi_does_not_bring(medi: Medi) -> None:
    refused(medi("run", "ami_bro"), "ami_bro: no such study file; medi brings ami_br, ", "did you mean 'ami_br'?")
