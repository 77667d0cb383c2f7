"""Stages that several runs have in common are made once."""

import dataclasses
import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from courier_tf import artefacts
from courier_tf.artefacts import MadeBy, write_file
from courier_tf.chain import Chain

STORE_FOLDER = "stages"  # In the workdir of the experiments.
SECONDS_FILE = "seconds.json"


@dataclasses.dataclass(frozen=True)
class SharingChain(Chain):
    """A chain whose stages lie in a store, by what made them; its workdir holds links.

    Two runs that agree in all that determines a stage share it. Of two that run at the same time one makes it, and the
    other waits.

    Attributes:
        store: folder of the stages.
    """

    store: Path = Path()

    def seconds(self, stage: str) -> float | None:
        """What making a stage took, whichever run made it; None for one that was not made here."""
        file = self.directory(stage).resolve().with_suffix(f".{SECONDS_FILE}")
        return json.loads(file.read_text()) if file.exists() else None

    def _unless_current(self, target: Path, made_by: MadeBy, make: Callable[[Path], object]) -> None:
        self.store.mkdir(parents=True, exist_ok=True)
        shared = self.store / f"{made_by.stage}-{made_by.key}"
        with shared.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not artefacts.is_current(shared, made_by):
                file, started = shared.with_suffix(f".{SECONDS_FILE}"), time.monotonic()
                # A run that was interrupted has left what it had used by then.
                before = json.loads(file.read_text()) if file.exists() else 0.0
                try:
                    super()._unless_current(shared, made_by, make)
                finally:
                    write_file(file, json.dumps(before + time.monotonic() - started))
        if target.is_symlink():
            target.unlink()
        target.symlink_to(os.path.relpath(shared, target.parent))
