"""Processes of their own in a fraction of a second: forked from a server that has imported medi; killed for good."""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = ["medi.study.study", "medi.cli.main", "medi.models.denoiser", "torch._dynamo"]


def server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def preload(*modules: str) -> None:
    """What many processes to come import is imported once, by their server; it must not have been started yet."""
    PRELOADED.extend(modules)


def begin(function: Callable[..., object], *arguments: object, **environment: str) -> BaseProcess:
    """Call a function of this module in a process with these environment variables."""
    process = server().Process(target=_call, args=(function, arguments, environment))
    process.start()
    return process


def ended(process: BaseProcess, seconds: float = 300) -> int | None:
    """The exit code of a process that has come to its end."""
    process.join(seconds)
    return process.exitcode


def _call(function: Callable[..., object], arguments: tuple[object, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    function(*arguments)


def train_tiny(cohort: Path, out: Path, images: int, pause: float = 0.0) -> int:
    """Train a tiny network on one thread, as all are compared; pause after every update. How many trained together."""
    import torch
    from accelerate import PartialState

    from medi.cohort.table import Cohort
    from medi.models.network import NetworkSettings
    from medi.training.loop import train
    from medi.training.recipe import Recipe

    torch.set_num_threads(1)
    patches, network = Cohort.load(cohort), NetworkSettings(size=8, fold=2, channels=(8, 8), layers=1)
    recipe = Recipe(images=images, batch=4, save_every=16, warmup=16, dropout=0.2)
    train(patches, out, network, recipe, patches.schema, 5, patches, lambda done, total: time.sleep(pause))
    return PartialState().num_processes


def medi(*arguments: object) -> None:
    """`medi ARGUMENTS`."""
    import sys

    from medi.cli.main import main

    sys.argv = ["medi", *map(str, arguments)]
    main()


def medi_into(file: Path, *arguments: object) -> None:
    """`medi ARGUMENTS` in the folder of a file, to which all that it prints goes."""
    import sys

    os.chdir(file.parent)
    with file.open("wb", buffering=0) as out:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(out.fileno(), stream.fileno())
            stream.reconfigure(line_buffering=True)
    medi(*arguments)
