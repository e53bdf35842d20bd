"""Work shared by many: part i of n, and within it the processes of torchrun or `accelerate launch`."""

import os
from collections.abc import Sequence
from typing import TypeVar

from medi.core.errors import MediError

Shard = tuple[int, int]  # part i of n, counted from 0
WHOLE: Shard = (0, 1)
Item = TypeVar("Item")


def share(items: Sequence[Item], shard: Shard) -> Sequence[Item]:
    """The items of a shard, and of these the ones of this process."""
    i, n = shard
    if not 0 <= i < n:
        raise MediError(f"shard {i}/{n}: shards are counted from 0/{n} to {n - 1}/{n}")
    return items[i::n][process("RANK", 0) :: process("WORLD_SIZE", 1)]


def process(name: str, default: int) -> int:
    """What torchrun and accelerate tell a process about itself."""
    return int(os.environ.get(name, default))
