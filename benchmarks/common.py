"""What benchmarks share: the JSON object that each prints as its last line, and the stock UNet to compare with."""

import json
import os
import platform
import threading
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

if TYPE_CHECKING:  # a benchmark without networks has no torch in its processes
    import torch

    from medi.models.network import NetworkSettings


def figure(values: Sequence[float], unit: str, target: str | None, n: int, against: str) -> dict[str, Any]:
    """The mean of a measurement over its repeats, with its range."""
    found = np.array(values, dtype=np.float64)
    spread = [round(float(found.min()), 4), round(float(found.max()), 4)]
    head = {"value": round(float(found.mean()), 4), "target": target, "unit": unit}
    return head | {"n": n, "spread": spread, "against": against}


def gpus() -> list[str]:
    """Names of the GPUs that torch can use here."""
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def report(topic: str, figures: dict[str, dict[str, Any]], libraries: Sequence[str]) -> None:
    """Print a line per figure and, last, the JSON object."""
    for name, found in figures.items():
        print(f"{name}: {found['value']} {found['unit']} (target {found['target']}, range {found['spread']})")
    machine = ", ".join([platform.machine(), f"{os.cpu_count()} cores", platform.system(), *gpus()])
    versions = {"python": platform.python_version()} | {name: version(name) for name in libraries}
    print(json.dumps({"topic": topic, "machine": machine, "versions": versions, "figures": figures}))


def cpu_seconds() -> float:
    """The CPU time of this process and of all that it ever started."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (me, *me.children(recursive=True)))


class Peak:
    """The highest memory of a process and its children: proportional set size, which counts shared pages once.

    every: seconds between two looks.
    """

    def __init__(self, pid: int, every: float = 1.0) -> None:
        self.process, self.every, self.highest, self.done = psutil.Process(pid), every, 0, False
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.done:
            try:
                tree = [self.process, *self.process.children(recursive=True)]
                self.highest = max(self.highest, sum(process.memory_full_info().pss for process in tree))
            except psutil.Error:
                pass
            time.sleep(self.every)

    def stop(self) -> int:
        self.done = True
        self.thread.join()
        return self.highest


def stock_unet(settings: "NetworkSettings") -> "torch.nn.Module":
    """The `diffusers.UNet2DModel` that our UNet is equal to, in PyTorch's default layout."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import UNet2DModel
    attends = [level in settings.attention for level in range(len(settings.channels))]
    return UNet2DModel(
        sample_size=settings.size // settings.fold,
        in_channels=3 * settings.fold**2,
        out_channels=3 * settings.fold**2,
        block_out_channels=settings.channels,
        layers_per_block=settings.layers,
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in attends[::-1]),
        resnet_time_scale_shift=settings.time_shift,
        norm_num_groups=settings.groups,
        add_attention=settings.middle_attention,
        attention_head_dim=settings.head_dim,
        class_embed_type="identity",
    )
