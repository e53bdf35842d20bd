"""Processes of their own in a fraction of a second: forked from a server that has imported medi; killed for good."""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

from medi.core.errors import MediError
from medi.core.files import write_text

if TYPE_CHECKING:
    from medi.models.network import NetworkSettings
    from medi.training.recipe import Recipe

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


def on_node(command: list[str], function: Callable[..., object], *arguments: object) -> None:
    """Be one of the nodes of torchrun's command, whose processes call a function in place of what the command calls."""
    from torch.distributed.launcher.api import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    config = config_from_args(parse_args(command[command.index("torch.distributed.run") + 1 :]))[0]
    config.start_method = "fork"
    (together,) = elastic_launch(config, function)(*arguments).values()
    assert together == config.max_nodes


def _call(function: Callable[..., object], arguments: tuple[object, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    function(*arguments)


def write_line(study: object, path: Path, text: str) -> str:
    """The work of a stage."""
    if not text:
        raise MediError("nothing to write")
    write_text(path / "x.txt", text)
    return f"wrote {text}"


def worked(
    folder: Path, name: str, work: Callable[[object, Path], str], advance: Callable[[int, int], None]
) -> tuple[str, str]:
    """Worker: a stage's work, after half a second."""
    time.sleep(0.5)
    advance(1, 1)
    return name, work(None, folder / name)


def train_tiny(cohort: Path, out: Path, images: int, pause: float = 0.0) -> int:
    """Train a tiny network on one thread, an update in unequal shares, as all are compared; pause after every update.
    How many trained together. In fp32: in bf16 each process rounds its share, which is more than another order of sums.
    """
    import torch
    from accelerate import PartialState

    torch.set_num_threads(1)
    _train(cohort, out, lambda done, total: time.sleep(pause), (8, 8), True, images=images, batch=5, precision="fp32")
    return PartialState().num_processes


def _train(
    cohort: Path,
    out: Path,
    progress: Callable[[int, int], None],
    channels: tuple[int, ...] = (8,),
    validates: bool = False,
    **changes: object,
) -> None:
    from medi.cohort.table import Cohort
    from medi.training.loop import train

    patches, (network, recipe) = Cohort.load(cohort), tiny_training(channels, **changes)
    train(patches, out, network, recipe, patches.schema, 5, patches if validates else None, progress)


def tiny_training(channels: tuple[int, ...] = (8,), **changes: object) -> tuple["NetworkSettings", "Recipe"]:
    """Settings of a tiny network, and of its training."""
    from medi.models.network import NetworkSettings
    from medi.training.recipe import Recipe

    recipe = Recipe(batch=4, save_every=16, warmup=16, dropout=0.2).changed(**changes)
    return NetworkSettings(size=8, fold=2, channels=channels, layers=1, groups=2), recipe


def train_sharded(cohort: Path, out: Path, settings: dict[str, object]) -> tuple[int, int, int]:
    """Together with others: train the tiny network with and without sharding, and a sharded one that a signal to the
    last process alone stops, and that goes on both ways. Where it stopped; how many numbers of the weights and
    averages this process holds, and of how many.
    """
    import shutil
    import signal

    import torch
    from accelerate import PartialState

    from medi.cohort.table import Cohort
    from medi.core.progress import unheard
    from medi.core.stopping import Stopped
    from medi.training import loop
    from medi.training.trainer import Trainer

    torch.set_num_threads(1)
    loop.ASKED_EVERY = 2
    state = PartialState(cpu=True)

    def stop(done: int, total: int) -> None:
        if done == 4 and state.is_last_process:
            os.kill(os.getpid(), signal.SIGTERM)

    for name, shard_model in (("plain", False), ("sharded", True)):
        _train(cohort, out / name, unheard, shard_model=shard_model, **settings)
    try:
        _train(cohort, out / "again", stop, shard_model=True, **settings)
    except Stopped as stopped:
        ((reached, _),) = stopped.saved
    if state.is_main_process:
        shutil.copytree(out / "again", out / "without")
    state.wait_for_everyone()
    for name, shard_model in (("again", True), ("without", False)):
        _train(cohort, out / name, unheard, shard_model=shard_model, **settings)
    patches, (network, recipe) = Cohort.load(cohort), tiny_training(shard_model=True, **settings)
    trainer = Trainer(patches, network, recipe, patches.schema, 5)
    held = [*trainer.weights, *trainer.ema.average.values()]
    return reached, sum(value.to_local().numel() for value in held), sum(value.numel() for value in held)


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


def app_into(file: Path, *arguments: object) -> None:
    """`medi app ARGUMENTS`, which draws few images where it learns a new level."""
    from medi.training.adaptation import adapt

    few = adapt.AdaptSettings(vector_images=64, tune_images=64)
    adapt.AdaptSettings = lambda: few
    medi_into(file, "app", *arguments)
