"""What every benchmark prints: one JSON object as its last line."""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch


def figure(values: Sequence[float], unit: str, target: str | None, n: int, against: str) -> dict[str, Any]:
    """The mean of a measurement over its repeats, with its range."""
    found = np.array(values, dtype=np.float64)
    spread = [round(float(found.min()), 4), round(float(found.max()), 4)]
    head = {"value": round(float(found.mean()), 4), "target": target, "unit": unit}
    return head | {"n": n, "spread": spread, "against": against}


def gpus() -> list[str]:
    """Names of the GPUs that torch can use here."""
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def report(topic: str, figures: dict[str, dict[str, Any]], libraries: Sequence[str]) -> None:
    """Print a line per figure and, last, the JSON object."""
    for name, found in figures.items():
        print(f"{name}: {found['value']} {found['unit']} (target {found['target']}, range {found['spread']})")
    machine = ", ".join([platform.machine(), f"{os.cpu_count()} cores", platform.system(), *gpus()])
    versions = {"python": platform.python_version()} | {name: version(name) for name in libraries}
    print(json.dumps({"topic": topic, "machine": machine, "versions": versions, "figures": figures}))
