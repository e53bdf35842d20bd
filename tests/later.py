"""Packages that take seconds to load: loaded by the test that uses them first, and not while tests are collected."""

import importlib
import importlib.util
from typing import Any

import pytest


class Later:
    """`timm = Later("timm")` is the module, loaded when it is first asked for something; a test skips without it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, thing: str) -> Any:
        if thing.startswith(("_", "pytest")):  # asked of every name of a module that holds tests
            raise AttributeError(thing)
        if importlib.util.find_spec(self.name) is None:
            pytest.skip(f"{self.name} is not installed")
        return getattr(importlib.import_module(self.name), thing)
