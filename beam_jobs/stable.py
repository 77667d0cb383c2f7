"""Hashes and random draws that are the same on every runner and worker, unlike Python's `hash`."""

import hashlib

import numpy as np


def stable_hash(*parts: object) -> int:
    """A number below 2**63 that depends on the parts alone. Beam packs signed numbers.

    >>> stable_hash("user", 3) == stable_hash("user", 3) != stable_hash("user", 4)
    True
    """
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stable_rng(*parts: object) -> np.random.Generator:
    """A random generator that depends on the parts alone."""
    return np.random.Generator(np.random.PCG64(stable_hash(*parts)))
