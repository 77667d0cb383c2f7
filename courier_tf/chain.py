"""The chain of stages: which one is still valid, in which order they run, where their results lie.

A stage whose inputs and settings have not changed is skipped; one that was interrupted goes on. Stages meet in files
alone: each is called with the directories of those before it.
"""

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from courier_tf.settings import SUPERVISED_SETTINGS, Settings
from courier_tf.workdir import artefacts
from courier_tf.workdir.artefacts import MadeBy, P
from courier_tf.workdir.atomic import exclusive, write_file
from courier_tf.workdir.facts import IngestFacts
from courier_tf.workdir.stages import CLUSTER, EMBED, INGEST, PRETRAIN, RANK, SUPERVISED, F, Stage

SETTINGS_FILE = "settings.json"


def require_known_names(settings: Settings) -> None:
    """Refuses names in the settings that stand for nothing, before any stage begins.

    The settings lie below the rooms that know these names, so they cannot check them.

    Raises:
        SettingsError: names the setting, the value and what is known.
    """
    from courier_tf.pretrain.objectives.registry import require_objective

    require_objective(settings.pretrain)


@dataclasses.dataclass(frozen=True)
class Chain:
    """One workdir and the settings it is run with.

    Attributes:
        workdir: holds one directory per stage, `models/`, `metrics.json` and `settings.json`.
        settings: of all stages.
        beam_options: Beam's own command-line options, for the jobs.
    """

    workdir: Path
    settings: Settings
    beam_options: Sequence[str] = ()

    def directory(self, stage: str) -> Path:
        """Where the result of a stage lies."""
        return self.workdir / stage

    def write_settings(self) -> None:
        """Writes the resolved settings into the workdir.

        Raises:
            SettingsError: a rank mode names an image feature that does not exist. The rank stage runs hours later.
        """
        from courier_tf.ranking.image_features import require_known

        require_known(self.settings.rank.rank_modes)
        self.workdir.mkdir(parents=True, exist_ok=True)
        write_file(self.workdir / SETTINGS_FILE, self.settings.to_json())

    def run(self, raw: str, final: bool = False, server: str | None = None) -> dict[str, Any]:
        """Runs every stage that is not current, then measures.

        Args:
            raw: folder or URI in the raw format.
            final: read the test span too; each reading is counted in the workdir.
            server: as of `export`.

        Returns:
            What stands in `metrics.json`.

        Raises:
            SettingsError: a name in the settings is unknown, or what a stage is to start from does not exist. Without
                this check the stage would find out hours later.
        """
        self.write_settings()
        require_known_names(self.settings)
        self.settings.require_formers()
        self.ingest(raw)
        self.pretrain()
        self.embed()
        self.cluster()
        self.rank()
        self.export(server=server)
        return self.report(final)

    def ingest(self, raw: str) -> None:
        """Raw logs and photos to TFRecords.

        Raises:
            SettingsError: a later stage is to use a column that items do not have. It would find out hours later.
        """
        from beam_jobs.ingest import fingerprint_of_raw, ingest

        made_by = self._made_by(INGEST, self.settings.ingest, {"raw": fingerprint_of_raw(raw)}, seeded=False)
        self._unless_current(
            self.directory(INGEST),
            made_by,
            lambda target: ingest(raw, target, self.settings.ingest, made_by, self.beam_options),
        )
        facts = artefacts.read(self.directory(INGEST), INGEST).facts
        counts = {name.replace("_", " "): number for name, number in facts.counts.items() if number}
        print("[ingest] " + ", ".join(f"{name} {number:,}" for name, number in counts.items()), flush=True)
        self.settings.require_columns(facts.all_columns)

    def pretrain(self) -> None:
        """Supervised pre-training on the catalogue's columns (unless `init` names an encoder), then the objective."""
        from courier_tf.pretrain import train

        require_known_names(self.settings)
        settings, seed = self.settings.pretrain, self.settings.seed
        ingested = artefacts.read(self.directory(INGEST), INGEST)
        inputs: dict[str, str] = {INGEST: ingested.fingerprint}
        start = Path(settings.init) if settings.init else self.directory(SUPERVISED)
        if not settings.init:
            # Settings of the objective do not touch it: all objectives start from the same encoder.
            own = {k: v for k, v in dataclasses.asdict(settings).items() if k in SUPERVISED_SETTINGS}
            made_by = self._made_by(SUPERVISED, own, inputs)
            self._unless_current(
                start, made_by, lambda target: train.pretrain_supervised(ingested.path, target, settings, seed, made_by)
            )
        inputs["start"] = self._fingerprint_of_start(start, ingested.facts)
        made_by = self._made_by(PRETRAIN, settings, inputs)
        self._unless_current(
            self.directory(PRETRAIN),
            made_by,
            lambda target: train.pretrain(ingested.path, start, target, settings, seed, made_by),
        )

    def _fingerprint_of_start(self, start: Path, data: IngestFacts) -> str:
        """Of the encoder that pre-training starts from: a stage's directory, or a file with foreign weights."""
        if start.is_file():
            return artefacts.fingerprint_of_file(start)
        if self.settings.pretrain.init:
            return self._former(PRETRAIN, "init", start, data).fingerprint
        return artefacts.read(start, SUPERVISED).fingerprint

    def _former(self, stage: Stage[P], option: str, place: Path, data: IngestFacts) -> artefacts.Artefact[P]:
        """The former result of a stage that an option names to start from; refused where it knows what comes later."""
        self.settings.require_formers()
        if place.resolve() == self.directory(stage).resolve():
            raise artefacts.ArtefactError(f"{option}={place} is what this stage writes: copy it somewhere else first")
        return artefacts.read_previous(place, stage, data)

    def embed(self) -> None:
        """Items to embeddings."""
        from beam_jobs.embed import embed
        from courier_tf.pretrain.train import EMBEDDER_FOLDER

        ingested, trained = self._ingested_and(PRETRAIN)
        inputs = {INGEST: ingested.fingerprint, "encoder": trained.facts.encoder}
        made_by = self._made_by(EMBED, self.settings.embed, inputs, seeded=False)
        self._unless_current(
            self.directory(EMBED),
            made_by,
            lambda target: embed(
                ingested.path,
                trained.path / EMBEDDER_FOLDER,
                trained.facts.encoder,
                target,
                self.settings.embed,
                made_by,
                self.beam_options,
            ),
        )

    def cluster(self) -> None:
        """Embeddings to cluster IDs."""
        from courier_tf.clusters.cluster import cluster

        ingested, embedded = self._ingested_and(EMBED)
        inputs = {EMBED: embedded.fingerprint, INGEST: ingested.fingerprint}
        if self.settings.cluster.previous:
            place = Path(self.settings.cluster.previous)
            inputs["previous"] = self._former(CLUSTER, "previous", place, ingested.facts).fingerprint
        made_by = self._made_by(CLUSTER, self.settings.cluster, inputs)
        self._unless_current(
            self.directory(CLUSTER),
            made_by,
            lambda target: cluster(
                ingested.path, embedded.path, target, self.settings.cluster, self.settings.seed, made_by
            ),
        )

    def rank(self) -> None:
        """Impressions, cluster IDs and embeddings to rankers, one per image-feature mode."""
        from courier_tf.ranking.image_features import needs_embeddings
        from courier_tf.ranking.train import rank

        settings = self.settings.rank
        ingested, clustered = self._ingested_and(CLUSTER)
        inputs: dict[str, str] = {INGEST: ingested.fingerprint, CLUSTER: clustered.fingerprint}
        embed: Path | None = None
        if needs_embeddings(settings.rank_modes):
            embedded = artefacts.read(self.directory(EMBED), EMBED)
            artefacts.require_input(clustered, EMBED, embedded.fingerprint)
            inputs[EMBED], embed = embedded.fingerprint, embedded.path
        if settings.rank_init:
            inputs["init"] = self._former(RANK, "rank_init", Path(settings.rank_init), ingested.facts).fingerprint
        made_by = self._made_by(RANK, settings, inputs)
        self._unless_current(
            self.directory(RANK),
            made_by,
            lambda target: rank(
                ingested.path,
                clustered.path,
                embed,
                target,
                settings,
                self.settings.seed,
                made_by,
                self._trained(made_by),
            ),
        )

    def _trained(self, made_by: MadeBy) -> dict[str, Path]:
        """Rank stages by the modes whose rankers need not be trained again: a chain by itself knows none."""
        return {}

    def export(self, scann: bool = False, server: str | None = None, warm_up_log: Path | None = None) -> None:
        """Trained models to versioned SavedModels below `models/`, and the bundle of the server below `serving/`.

        With `scann`, similar items by ScaNN below `models_scann/`, too; with `server` (host:port), labels move as that
        one loads what they name; with `warm_up_log`, new versions warm up with logged requests.
        """
        from courier_tf.exporting.export import export
        from courier_tf.exporting.finished_stages import FinishedStages

        export(FinishedStages.read(self.workdir), self.workdir, scann, server, warm_up_log)

    def report(self, final: bool = False) -> dict[str, Any]:
        """Writes `metrics.json`: what each stage measured, and with `final` the rankers on the test span.

        Raises:
            ArtefactError: stages are missing, or do not belong together.
        """
        from courier_tf.ranking.metrics_file import write_metrics

        ingested, ranked = self._ingested_and(RANK)
        clustered = artefacts.read(self.directory(CLUSTER), CLUSTER)
        encoders = {str(PRETRAIN): artefacts.read(self.directory(PRETRAIN), PRETRAIN)}
        if not self.settings.pretrain.init:
            encoders[str(SUPERVISED)] = artefacts.read(self.directory(SUPERVISED), SUPERVISED)
        artefacts.require_input(ranked, CLUSTER, clustered.fingerprint)
        artefacts.require_encoder(clustered, encoders[PRETRAIN])
        return write_metrics(self.workdir, ingested, encoders, clustered, ranked, final)

    def _ingested_and(self, stage: Stage[F]) -> tuple[artefacts.Artefact[IngestFacts], artefacts.Artefact[F]]:
        """The results of ingest and of another stage; the latter must come from the former."""
        ingested = artefacts.read(self.directory(INGEST), INGEST)
        other = artefacts.read(self.directory(stage), stage)
        if INGEST in other.made_by.inputs:
            artefacts.require_input(other, INGEST, ingested.fingerprint)
        return ingested, other

    def _made_by(self, stage: str, settings: Any, inputs: dict[str, str], seeded: bool = True) -> MadeBy:
        values = settings if isinstance(settings, dict) else dataclasses.asdict(settings)
        return MadeBy(stage, {**values, **({"seed": self.settings.seed} if seeded else {})}, inputs)

    def _unless_current(self, target: Path, made_by: MadeBy, make: Callable[[Path], object]) -> None:
        name = made_by.stage
        waiting = f"[{name}] another process is making {target}: waiting for it"
        with exclusive(target.with_name(f".{target.name}.lock"), waiting):
            if artefacts.is_current(target, made_by):
                print(f"[{name}] unchanged, skipped", flush=True)
                return
            started = datetime.datetime.now()
            print(f"[{name}] ...", flush=True)
            make(target)
            print(f"[{name}] done in {(datetime.datetime.now() - started).total_seconds():.0f} s", flush=True)
