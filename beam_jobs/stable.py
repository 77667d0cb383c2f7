"""Hashes and random draws that are the same on every runner, worker and day (Python's `hash` is not)."""

import hashlib

import numpy as np


def stable_hash(*parts: object) -> int:
    """A number below 2**63 (Beam packs signed ones) that depends on nothing but the parts."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stable_rng(*parts: object) -> np.random.Generator:
    """A random generator that depends on nothing but the parts."""
    return np.random.Generator(np.random.PCG64(stable_hash(*parts)))
