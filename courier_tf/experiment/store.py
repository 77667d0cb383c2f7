"""A store of stages: what several runs have in common is made once."""

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
from courier_tf.chain.chain import Chain
from courier_tf.files.places import Place
from courier_tf.typed_json import JsonError, read_json, require_kind
from courier_tf.workdir import artefacts
from courier_tf.workdir.artefacts import ArtefactError
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import RANK

STORE_FOLDER = "stages"  # In the workdir of the experiments.
MADE_FILE = "made.json"  # Beside a stage: the seconds that it took, and the commit of the code that finished it.


@dataclasses.dataclass(frozen=True)
class SharingChain(Chain):
    """A chain whose stages lie in a store, named by what determines them. Its workdir holds links.

    Two runs share a stage if they agree in everything that determines it. If they run at the same time, one makes the
    stage and the other waits.

    Attributes:
        store: folder of the stages.
    """

    store: Path = Path()

    def seconds(self, stage: str) -> float | None:
        """The seconds that making a stage took, whichever run made it; None for a stage that was not made here.

        For the rank stage, rankers that were taken over from another run are left out. For the features stage, the
        sources that this run uses are added up.
        """
        made = [_made(link) for link in self.links(stage)]
        return sum(values["seconds"] for values in made) if made and all(made) else None

    def commit(self, stage: str) -> str | None:
        """The commit of the code that made a stage, whichever run that was; None for one that was not made here."""
        made = [_made(link) for link in self.links(stage)]
        return made[-1].get("commit") if made else None

    def links(self, stage: str) -> list[Path]:
        """The links of a stage in the workdir: one, or one per source of features; none for one that was not run."""
        directory = self.workdir / stage
        places = [directory] if directory.is_symlink() else sorted(directory.glob("*"))
        return [place for place in places if place.is_symlink()]

    def known(self, stage: str, below: str = "") -> list[Place]:
        """Also the results of other runs: those of another day or seed have the same photos."""
        of_this_run = super().known(stage, below)
        return of_this_run if stage in self.force else [*of_this_run, *sorted(self.store.glob(f"{stage}-*/"))]

    def trained(self, made_by: MadeBy) -> dict[str, Path]:
        """Mode -> a finished rank stage with the same ranker. For instance, all objectives share one ranker `none`."""
        places = self.workers.chief_says(lambda: self._trained(made_by))
        return {mode: Path(place) for mode, place in places.items()}

    def _trained(self, made_by: MadeBy) -> dict[str, str]:
        from courier_tf.ranking.train import same_rankers

        places: dict[str, str] = {}
        for path in sorted(self.store.glob(f"{made_by.stage}-*/")):
            try:
                other = artefacts.read(path, RANK)
            except ArtefactError:  # It is broken; the run that needs it makes it again.
                continue
            modes = set(self.settings.rank.rank_modes) & set(other.facts.modes)
            places |= {mode: str(path) for mode in modes if same_rankers(mode, made_by, other.made_by)}
        return places

    def unless_current(
        self,
        target: Place,
        made_by: MadeBy,
        make: Callable[[Place], object],
        name: str | None = None,
        also_stale: Callable[[Place], str | None] = lambda _: None,
        together: bool = False,
    ) -> None:
        assert isinstance(target, Path), "the stages of an experiment lie on this machine"
        if target.exists() and not target.is_symlink():
            raise ArtefactError(f"{target} was made by a run outside experiments and cannot be shared: remove it")
        shared = self.store / f"{made_by.stage}-{made_by.key}"

        def timed(place: Place) -> None:
            file, started = shared.with_suffix(f".{MADE_FILE}"), time.monotonic()
            # An interrupted run has left its partial work, and the seconds that it took.
            goes_on = file.exists() and artefacts.partial_of(shared).exists()
            before = _read_made(file)["seconds"] if goes_on else 0.0
            try:
                make(place)
            finally:
                took = before + time.monotonic() - started
                write_file(file, json.dumps({"seconds": took, "commit": commit()}))

        is_chief = self.workers.is_chief
        super().unless_current(shared, made_by, timed if is_chief else make, name, also_stale, together)
        if is_chief:
            if target.is_symlink():
                target.unlink()
            target.symlink_to(os.path.relpath(shared, target.parent))
        self.workers.wait()


def _made(link: Path) -> dict[str, Any]:
    """What stands beside the stage that a link leads to; empty where that was not made here."""
    file = link.resolve().with_suffix(f".{MADE_FILE}")
    return _read_made(file) if file.exists() else {}


def _read_made(file: Path) -> dict[str, Any]:
    try:
        made: dict[str, Any] = read_json(file)
        require_kind("the content", made, dict[str, Any])
        require_kind(f"seconds={made.get('seconds')!r}", made.get("seconds"), float)
    except JsonError as error:
        raise ArtefactError(f"{file} is broken: {error}. Remove it together with the folder beside it") from error
    return made


@functools.cache
def commit() -> str:
    """The commit of the checkout that holds this code, as git describes it; the version where there is no checkout."""
    folder, git = Path(courier_tf.__file__).parents[1], shutil.which("git")
    if not git or not (folder / ".git").exists():
        return courier_tf.__version__
    command = [git, "-C", str(folder), "describe", "--always", "--dirty"]
    described = subprocess.run(command, capture_output=True, text=True, check=False)
    return described.stdout.strip() or courier_tf.__version__
