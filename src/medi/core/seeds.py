"""Randomness starts here: every stream is derived from a key, never from the order of calls (P3, P4)."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

Key = str | int


def digest(*key: Key) -> bytes:
    """128 bits that name a stream; ("a", 1) and ("a1",) differ."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def generator(*key: Key) -> np.random.Generator:
    """An independent generator for this key, the same on every machine and in every process."""
    return np.random.Generator(np.random.Philox(key=np.frombuffer(digest(*key), "<u8")))


def integer(*key: Key) -> int:
    """A seed of 31 bits for libraries that want a number."""
    return int.from_bytes(digest(*key)[:4], "little") >> 1


def noise(seed: int, noise_ids: Sequence[Key], shape: tuple[int, ...]) -> Float32[np.ndarray, "n ..."]:
    """Standard normal noise of sample i from (seed, noise_id i) alone, whatever the batch around it (P3).

    Returns an array [len(noise_ids), *shape] of float32.
    """
    out = np.empty((len(noise_ids), *shape), dtype=np.float32)
    for row, noise_id in zip(out, noise_ids):
        generator("noise", seed, noise_id).standard_normal(out=row, dtype=np.float32)
    return out
