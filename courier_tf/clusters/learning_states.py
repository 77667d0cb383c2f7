"""The state of learning, kept aside while it goes on, so that an interrupted stage goes on where it stopped."""

import time
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

State = TypeVar("State", bound=NamedTuple)
SECONDS = 30.0  # Between two saves.


class Saved:
    """Named states (tuples of arrays and numbers), one file each.

    Args:
        folder: to keep them in.
        seconds: between two saves of a state that is not finished.
    """

    def __init__(self, folder: Path, seconds: float = SECONDS) -> None:
        self.folder, self.seconds = folder, seconds
        self._last = time.monotonic()

    def load(self, name: str, kind: type[State]) -> State | None:
        """What was saved under `name`, None if there is nothing."""
        file = self.folder / f"{name}.npz"
        if not file.exists():
            return None
        with np.load(file) as content:
            return kind(*(content[field] if content[field].ndim else content[field].item() for field in kind._fields))

    def save(self, name: str, state: NamedTuple, finished: bool = False) -> None:
        """Saves the state, unless it is not finished and the last save is but a moment ago."""
        if not finished and time.monotonic() - self._last < self.seconds:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".{name}.partial.npz"
        np.savez(aside, **state._asdict())
        aside.replace(self.folder / f"{name}.npz")
        self._last = time.monotonic()
