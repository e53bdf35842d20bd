"""The verb export as a user runs it."""

from pathlib import Path

from command_line import Medi, fine, refused


def test_a_pipeline_folder(verb: Medi) -> None:
    options = ("--class-name", "cancer", "--data-licence", "CC BY 4.0")
    shown = fine(verb("export", "m", "--out", "p", *options))
    assert "pipeline and model card: " in shown
    assert "next: python -c " in shown
    assert {path.name for path in Path("p").iterdir()} == {"model_index.json", "pipeline.py", "denoiser", "README.md"}
    text = Path("p/README.md").read_text()
    assert "| LUAD | Asterand 9 | NA, X |" in text
    assert "CC BY 4.0" in text
    refused(verb("export", "none"), "none: no such checkpoint")
