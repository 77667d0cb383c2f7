"""Stages that several runs have in common are made once."""

import dataclasses
import functools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import courier_tf
from courier_tf.chain import Chain
from courier_tf.workdir import artefacts
from courier_tf.workdir.artefacts import ArtefactError, MadeBy
from courier_tf.workdir.atomic import write_file

STORE_FOLDER = "stages"  # In the workdir of the experiments.
MADE_FILE = "made.json"  # Beside a stage: seconds that it took, commit of the code that finished it.


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
        """What making a stage took, whichever run made it; None for one that was not made here.

        Of the rank stage: what it trained itself. Rankers that it took over from another took their time there.
        """
        return self._made(stage).get("seconds")

    def commit(self, stage: str) -> str | None:
        """Of the code that made a stage, whichever run that was; None for one that was not made here."""
        return self._made(stage).get("commit")

    def _made(self, stage: str) -> dict[str, Any]:
        file = self.directory(stage).resolve().with_suffix(f".{MADE_FILE}")
        return json.loads(file.read_text()) if file.exists() else {}

    def _trained(self, made_by: MadeBy) -> dict[str, Path]:
        """The modes of this rank stage that a finished one has: `none` of every objective is one ranker."""
        from courier_tf.ranking.train import same_rankers

        found = {}
        for path in sorted(self.store.glob(f"{made_by.stage}-*/")):
            try:
                other = artefacts.read(path, made_by.stage).made_by
            except ArtefactError:  # Broken: whoever needs it makes it anew.
                continue
            modes = set(self.settings.rank.rank_modes) & set(other.settings["rank_modes"])
            found |= {mode: path for mode in modes if same_rankers(mode, made_by, other)}
        return found

    def _unless_current(self, target: Path, made_by: MadeBy, make: Callable[[Path], object]) -> None:
        if target.exists() and not target.is_symlink():
            raise ArtefactError(f"{target} was made by itself, and not to be shared: remove it")
        shared = self.store / f"{made_by.stage}-{made_by.key}"

        def timed(place: Path) -> None:
            file, started = shared.with_suffix(f".{MADE_FILE}"), time.monotonic()
            # A run that was interrupted has left its work, and what it had used by then.
            goes_on = file.exists() and artefacts.partial_of(shared).exists()
            before = json.loads(file.read_text())["seconds"] if goes_on else 0.0
            try:
                make(place)
            finally:
                took = before + time.monotonic() - started
                write_file(file, json.dumps({"seconds": took, "commit": commit()}))

        super()._unless_current(shared, made_by, timed)
        if target.is_symlink():
            target.unlink()
        target.symlink_to(os.path.relpath(shared, target.parent))


@functools.cache
def commit() -> str:
    """Of the checkout that this code stands in, as git describes it; its version where there is none."""
    folder, git = Path(courier_tf.__file__).parents[1], shutil.which("git")
    if not git or not (folder / ".git").exists():
        return courier_tf.__version__
    command = [git, "-C", str(folder), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or courier_tf.__version__
