"""States of learning in files, so that an interrupted cluster stage goes on where it stopped."""

import time
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

State = TypeVar("State", bound=NamedTuple)
SECONDS = 30.0  # Least time between two saves.


class LearningStates:
    """Named states (NamedTuples of arrays and numbers), each in a file of its own.

    Args:
        folder: where the files lie.
        seconds: least time between two saves of a state that is not finished.
    """

    def __init__(self, folder: Path, seconds: float = SECONDS) -> None:
        self.folder, self.seconds = folder, seconds
        self._last = time.monotonic()

    def load(self, name: str, kind: type[State]) -> State | None:
        """The state saved under `name`, or None."""
        file = self.folder / f"{name}.npz"
        if not file.exists():
            return None
        with np.load(file) as content:
            return kind(*(content[field] if content[field].ndim else content[field].item() for field in kind._fields))

    def save(self, name: str, state: NamedTuple, finished: bool = False) -> None:
        """Saves the state. One that is not finished is left out if the last save was less than `seconds` ago."""
        if not finished and time.monotonic() - self._last < self.seconds:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".{name}.partial.npz"
        np.savez(aside, **state._asdict())
        aside.replace(self.folder / f"{name}.npz")
        self._last = time.monotonic()
