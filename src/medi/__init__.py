"""MeDi: metadata-guided diffusion for histopathology (after Drexlin et al., MICCAI 2025).

The library in one place. Everything is loaded at its first use; importing `medi` loads no torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_HOMES = {  # public name -> the module that defines it
    "MediError": "medi.core.errors",
    "register": "medi.core.registry",
    "Cohort": "medi.cohort.table",
    "embed": "medi.api.measures",
    "fidelity": "medi.api.measures",
    "utility": "medi.api.measures",
    "Fidelity": "medi.api.measures",
    "Utility": "medi.api.measures",
    "Embedded": "medi.evaluation.features",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medi' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
