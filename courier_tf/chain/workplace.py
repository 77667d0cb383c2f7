"""Where the stages of a run lie, which of them is still valid, and how one is made."""

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import Place, StorePlace, place_of
from courier_tf.process import release_memory
from courier_tf.settings import Settings, SettingsError
from courier_tf.workdir import artefacts, stored
from courier_tf.workdir.atomic import exclusive
from courier_tf.workdir.costs import measured
from courier_tf.workdir.facts import IngestFacts
from courier_tf.workdir.matching import P, read_previous, require_input
from courier_tf.workdir.provenance import MadeBy, fingerprint_of
from courier_tf.workdir.stages import FEATURES, IN_ORDER, INGEST, SUPERVISED, F, Stage
from courier_tf.workers.workers import ALONE, Workers

LOG = logging.getLogger(__name__)
PREVIOUS, FOREIGN = "previous", "init"  # Inputs of a stage: what it starts from.
STARTS = (PREVIOUS, FOREIGN, SUPERVISED)


@dataclasses.dataclass(frozen=True)
class Workplace:
    """One workdir and the settings it is run with.

    Attributes:
        workdir: holds one directory per stage, `models/`, `metrics.json` and `settings.json`.
        settings: of all stages.
        beam_options: Beam's own command-line options, for the jobs.
        force: names of stages that are made again, even if nothing has changed.
        place: the workdir on a store, where the results lie. `workdir` then holds copies of them, for the stages that
            need files of this machine; Beam jobs do not.
        workers: those that train together. The chief alone writes into the workdir.

    Raises:
        SettingsError: `force` names something that is not a stage.
    """

    workdir: Path
    settings: Settings
    beam_options: Sequence[str] = ()
    force: frozenset[str] = frozenset()
    place: StorePlace | None = None
    workers: Workers = ALONE

    def __post_init__(self) -> None:
        unknown = sorted(self.force - set(IN_ORDER))
        if unknown:
            raise SettingsError(f"force: there is no stage '{unknown[0]}'. Stages: {', '.join(IN_ORDER)}")

    def directory(self, stage: str) -> Place:
        """Where the result of a stage lies."""
        return (self.place or self.workdir) / stage

    def features_directory(self, source: str) -> Place:
        """Where the features of a source lie."""
        from courier_tf.features.files import folder_of

        return self.directory(FEATURES) / folder_of(source)

    def known(self, stage: str, below: str = "") -> list[Place]:
        """Results whose unchanged photos are taken over: those of this workdir and of the previous one.

        A forced stage takes nothing over.

        Args:
            stage: name of the stage.
            below: folder inside it.
        """
        previous = self.settings.previous.previous
        stages = [self.directory(stage), *([place_of(previous) / stage] if previous else [])]
        return [] if stage in self.force else [place / below if below else place for place in stages]

    def local(self, artefact: artefacts.Artefact[Any]) -> Path:
        """The files of a stage on this machine, which another stage is made from.

        Raises:
            DamagedArtefactError: one is not what was written.
        """
        self.require_whole(artefact)
        return stored.local_copy(artefact, self.workdir / self._below(artefact.place))

    def require_whole(self, artefact: artefacts.Artefact[Any]) -> None:
        """Refuses a result that a stage is to be made from, if a file has changed whose format has no checksums.

        Raises:
            DamagedArtefactError: one has, large or small.
        """
        with artefacts.reading_large_files():
            artefacts.verify(artefact)

    def _below(self, files: Place) -> str:
        """Where in `workdir` the copy of a stage belongs. Those of earlier runs lie apart."""
        stage = str(files).rpartition("/")[0]
        inside = stage.removeprefix(f"{self.place}/")
        return inside if inside != stage else f".previous/{fingerprint_of(stage)}"

    def made_here(self, make: Callable[[Path], object]) -> Callable[[Place], object]:
        """A stage that writes files of this machine, for any target: on a store the result is copied there."""

        def make_and_publish(target: Place) -> None:
            local = target if isinstance(target, Path) else self.workdir / str(target).removeprefix(f"{self.place}/")
            make(local)
            if isinstance(target, StorePlace) and self.workers.is_chief:
                stored.publish(local, target)

        return make_and_publish

    def previous(self, stage: Stage[P], directory: Place | None, data: IngestFacts) -> artefacts.Artefact[P] | None:
        """The result of an earlier run that a stage starts from; refused where it knows the future of this run."""
        if directory is None:
            return None
        if _resolved(directory) == _resolved(self.directory(stage)):
            raise artefacts.ArtefactError(
                f"{directory} cannot be started from: the stage '{stage}' of this run writes it. Start from a snapshot "
                f"({self.workdir / schema.PROMOTED_FOLDER}, which 'courier export --promote' writes), or from a copy"
            )
        return read_previous(directory, stage, data)

    def ingested_and(self, stage: Stage[F]) -> tuple[artefacts.Artefact[IngestFacts], artefacts.Artefact[F]]:
        """The results of ingest and of another stage, which must have been made from this ingest."""
        ingested = artefacts.read(self.directory(INGEST), INGEST)
        other = artefacts.read(self.directory(stage), stage)
        if INGEST in other.made_by.inputs:
            require_input(other, INGEST, ingested.fingerprint)
        return ingested, other

    def made_by(
        self,
        stage: Stage[Any],
        settings: Any,
        inputs: dict[str, str],
        *,
        previous: artefacts.Artefact[Any] | None = None,
        seeded: bool = True,
    ) -> MadeBy:
        values = settings if isinstance(settings, dict) else dataclasses.asdict(settings)
        made_by = MadeBy(stage, {**values, **({"seed": self.settings.seed} if seeded else {})}, inputs)
        if previous is None:
            return made_by
        # A snapshot of the present result, which has been promoted since, is no reason to make it again.
        before = {name: value for name, value in previous.made_by.inputs.items() if name in STARTS}
        promoted = dataclasses.replace(made_by, inputs={**inputs, **before})
        if promoted.key == previous.made_by.key and artefacts.is_current(self.directory(stage), promoted):
            return promoted
        return dataclasses.replace(made_by, inputs={**inputs, PREVIOUS: previous.fingerprint})

    def require_starts(self) -> None:
        """Refuses to start from what is not there, or from this workdir itself.

        Raises:
            SettingsError: names the option and the place.
        """
        self.settings.require_starts()
        previous = self.settings.previous.previous
        if previous and _resolved(place_of(previous)) == _resolved(self.place or self.workdir):
            snapshot = self.workdir / schema.PROMOTED_FOLDER
            raise SettingsError(
                f"previous={previous} is the workdir of this run, which replaces what it starts from: name {snapshot}, "
                "which 'courier export --promote' writes, or a copy"
            )

    def unless_current(
        self,
        target: Place,
        made_by: MadeBy,
        make: Callable[[Place], object],
        name: str | None = None,
        also_stale: Callable[[Place], str | None] = lambda _: None,
        together: bool = False,
    ) -> None:
        """Makes a stage unless it is there already, made by the same.

        Args:
            target: its directory.
            made_by: all that determines it. Workers that train together must agree on it.
            make: writes it.
            name: what messages call it.
            also_stale: why the one in a directory must be made again for what `made_by` does not hold; None if nothing.
            together: all workers make it, and the chief writes. Otherwise the chief makes it, and the others wait.

        Raises:
            TrainingError: a worker would make it in another way, as it has other settings, data or code.
        """
        name = name or made_by.stage
        facts = {"stage": made_by.stage, "inputs": made_by.inputs, "code": fingerprint_of(made_by.code)}
        self.workers.require_same({**made_by.settings, **facts})
        waiting = f"[{name}] another process is making {target}: waiting for it"
        lock = target.with_name(f".{target.name}.lock")
        with exclusive(lock, waiting) if self.workers.is_chief else contextlib.nullcontext():
            forced = made_by.stage in self.force
            reason = self.workers.chief_says(
                lambda: "it is forced" if forced else artefacts.why_stale(target, made_by) or also_stale(target)
            )
            if reason is None:
                LOG.info("[%s] unchanged, skipped", name)
                return
            make_it = functools.partial(self._make, target, make, name, reason)
            if not together:
                self.workers.chief_says(make_it)
            elif self.workers.is_chief:
                make_it()
            else:
                with artefacts.reading_large_files():
                    make(target)
            self.workers.wait()

    def _make(self, target: Place, make: Callable[[Place], object], name: str, reason: str) -> None:
        if transfer.exists(target):
            LOG.info("[%s] is made again: %s", name, reason)
        started = time.monotonic()
        LOG.info("[%s] ...", name)
        with measured(self.workdir, name), artefacts.reading_large_files():
            make(target)
        release_memory()
        LOG.info("[%s] done in %.0f s", name, time.monotonic() - started)


def _resolved(place: Place) -> Place:
    return place.resolve() if isinstance(place, Path) else place
