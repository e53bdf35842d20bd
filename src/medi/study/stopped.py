"""What a process that was stopped or killed left in a folder: nothing is broken, the same command goes on (P12)."""

from collections.abc import Iterator
from pathlib import Path

from medi.core.files import read_json
from medi.core.locks import holder, is_empty, last_holder

STATE, PACKING, SAMPLING = "state.safetensors", "unfinished/recipe.json", "parts"


def what_is_left(folder: Path) -> str:
    """What has not become a result yet, in words; "" where a folder holds nothing of the kind.

    MediError where what is kept to go on from cannot be read.
    """
    return next(_left(folder), "")


def how_it_goes_on(folder: Path, command: str = "") -> str:
    """What to do: wait for the process that works there, or type the command of the one that is gone.

    command: the one that is known from elsewhere.
    """
    working, gone = holder(folder), last_holder(folder)
    if working is not None:
        return f"process {working.pid} on {working.host} works here ({working.command}); wait until it ends"
    typed = command or (gone.command if gone is not None else "")
    return "the same command goes on where it stopped" + (f": {typed}" if typed else "")


def _left(folder: Path) -> Iterator[str]:
    if (folder / STATE).is_file():
        yield _training(folder / STATE)
    if (folder / PACKING).is_file():
        yield f"a packing of {read_json(folder / PACKING)['rows']:,} patches that is not finished"
    if (folder / SAMPLING).is_dir():
        batches = len(list((folder / SAMPLING).glob("[0-9]*.npy")))
        yield f"a sampling that is not finished, batches of images so far: {batches:,}"
    if last_holder(folder) is not None:
        yield "nothing was saved before it stopped" if is_empty(folder) else "what was begun here is not finished"


def _training(state: Path) -> str:
    from medi.models.checkpoint import load_tensors

    saved = load_tensors(state)[1]
    return f"a training that is not finished, saved at {saved['images']:,} of {saved['recipe']['images']:,} images"
