"""Shapes are checked in every test: jaxtyping's annotations are enforced on the whole package."""

from jaxtyping import install_import_hook

install_import_hook("medi", "beartype.beartype")
