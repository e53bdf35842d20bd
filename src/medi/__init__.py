"""MeDi: metadata-guided diffusion for histopathology (after Drexlin et al., MICCAI 2025).

The library in one place. Everything is loaded at its first use; importing `medi` loads no torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_HOMES = {  # public name -> the module that defines it, and its name there where that is another one
    "Attribute": "medi.cohort.schema",
    "Audit": "medi.cohort.audit",
    "Cohort": "medi.cohort.table",
    "embed": "medi.api.measures",
    "Embedded": "medi.evaluation.features",
    "Fidelity": "medi.api.results",
    "fidelity": "medi.api.measures",
    "Holdout": "medi.cohort.holdout",
    "MediError": "medi.core.errors",
    "Model": "medi.api.model",
    "phantom": "medi.cohort.phantom.cohorts:cohort",
    "Plan": "medi.cohort.plan",
    "read": "medi.cohort.readers",
    "InnerModels": "medi.api.inner_models",
    "recommend": "medi.api.recommending",
    "Recommendation": "medi.api.recommending",
    "register": "medi.core.registry",
    "Results": "medi.study.results",
    "Robustness": "medi.api.robustness",
    "robustness": "medi.api.robustness",
    "Rule": "medi.cohort.rule",
    "run": "medi.study.study",
    "sample": "medi.api.model",
    "Schema": "medi.cohort.schema",
    "Sweep": "medi.api.sweeping",
    "sweep": "medi.api.sweeping",
    "train": "medi.api.model",
    "train_classifier": "medi.api.guiding",
    "Utility": "medi.api.results",
    "utility": "medi.api.measures",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'medi' has no attribute {name!r}")
    module, _, own = _HOMES[name].partition(":")
    return getattr(import_module(module), own or name)


def __dir__() -> list[str]:
    return sorted(__all__)
