"""The chain of stages: in which order they run, and what each is called with.

A stage whose inputs and settings have not changed is skipped; one that was interrupted goes on. Stages meet in files
alone: each is called with the directories of those before it.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from courier_tf.chain.encoder_stages import features_of, fingerprint_of_features, tell_photos, train_encoder
from courier_tf.chain.known_names import require_known_names, require_pretrained
from courier_tf.chain.workplace import Workplace
from courier_tf.files import transfer
from courier_tf.files.places import Place
from courier_tf.workdir import artefacts, stored
from courier_tf.workdir.atomic import exclusive, write_file
from courier_tf.workdir.costs import measured
from courier_tf.workdir.facts import EmbedFacts
from courier_tf.workdir.matching import require_encoder, require_input
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import CLUSTER, EMBED, EXPORT, FEATURES, INGEST, PRETRAIN, RANK, SUPERVISED

LOG = logging.getLogger(__name__)
SETTINGS_FILE = "settings.json"


class Chain(Workplace):
    """The stages of one workdir. Attributes and errors are those of `Workplace`."""

    def write_settings(self) -> None:
        """Writes the resolved settings into the workdir. Workers beside the chief only check them.

        Raises:
            SettingsError: a name in the settings stands for nothing. The stage would find out hours later.
        """
        require_known_names(self.settings)
        if not self.workers.is_chief:
            return
        self.workdir.mkdir(parents=True, exist_ok=True)
        write_file((self.place or self.workdir) / SETTINGS_FILE, self.settings.to_json())

    def run(self, raw: str, final: bool = False, servers: Sequence[str] = ()) -> dict[str, Any]:
        """Runs every stage that is not current, then measures.

        Args:
            raw: folder or URI in the raw format.
            final: read the test span too; each reading is counted in the workdir.
            servers: HOST:PORT of running servers, as in `export`.

        Returns:
            What stands in `metrics.json`.

        Raises:
            SettingsError: a name in the settings stands for nothing, or what a stage is to start from does not exist.
                The stage would find out hours later.
        """
        self.require_starts()
        self.write_settings()
        pretrain = self.settings.pretrain
        starts_elsewhere = pretrain.init or self.settings.previous.encoder()
        if not starts_elsewhere and not transfer.exists(self.directory(PRETRAIN)):
            require_pretrained(pretrain)
        stages: dict[str, Callable[[], object]] = {
            "ingest": lambda: self.ingest(raw),
            "pretrain": self.pretrain,
            "embed": self.embed,
            "cluster": self.cluster,
            "rank": self.rank,
            "export": lambda: self.export(servers=servers),
        }
        for number, (name, stage) in enumerate(stages.items(), start=1):
            LOG.info("[run] stage %d of %d: %s", number, len(stages), name)
            stage()
        return self.report(final)

    def ingest(self, raw: str) -> None:
        """Raw logs and photos to TFRecords.

        Raises:
            SettingsError: a later stage is to use a column that items do not have. It would find out hours later.
        """
        from beam_jobs.ingest import ingest
        from beam_jobs.ingest_report import report
        from beam_jobs.raw_fingerprint import MEMORY_FILE, fingerprint_of_raw

        settings = self.settings.ingest
        memory = self.workdir / MEMORY_FILE
        fingerprint = self.workers.chief_says(lambda: fingerprint_of_raw(raw, settings, memory))
        made_by = self.made_by(INGEST, settings, {"raw": fingerprint}, seeded=False)
        self.unless_current(
            self.directory(INGEST),
            made_by,
            lambda target: ingest(raw, target, settings, made_by, self.beam_options, self.known(INGEST), memory),
            also_stale=lambda stage: self._changed_photos(raw, stage),
        )
        facts = artefacts.read(self.directory(INGEST), INGEST).facts
        for line in report(facts, self.settings.ingest):
            LOG.info("[ingest] %s", line)
        self.settings.require_columns(facts.all_columns, facts.context_columns, facts.user_columns)

    def _changed_photos(self, raw: str, stage: Place) -> str | None:
        """Why the ingest must be made again, although the tables are the same."""
        from beam_jobs.photo_check import photos_differ

        facts = artefacts.read(stage, INGEST).facts
        differ = photos_differ(raw, stage, facts, self.settings.ingest, self.beam_options)
        return "photos have changed" if differ else None

    def pretrain(self) -> None:
        """Trains the encoder; `encoder_stages.train_encoder` says how."""
        train_encoder(self)

    def embed(self) -> None:
        """Items to embeddings."""
        from beam_jobs.embed import embed
        from courier_tf.pretrain.encoder_stage import EMBEDDER_FOLDER

        ingested, trained = self.ingested_and(PRETRAIN)
        inputs = {INGEST: ingested.fingerprint, "encoder": trained.facts.encoder}
        features = features_of(self, trained)
        if features:
            inputs[FEATURES] = fingerprint_of_features(features)
        made_by = self.made_by(EMBED, self.settings.embed, inputs, seeded=False)

        def make(target: Place) -> None:
            self.require_whole(trained)
            embed(
                self.directory(INGEST),
                trained.place / EMBEDDER_FOLDER,
                trained.facts.encoder,
                target,
                self.settings.embed,
                made_by,
                self.beam_options,
                features,
                self.known(EMBED),
            )

        self.unless_current(self.directory(EMBED), made_by, make)
        tell_photos(EMBED, artefacts.read(self.directory(EMBED), EMBED).facts)

    def cluster(self) -> None:
        """Embeddings to cluster IDs."""
        from courier_tf.clusters.cluster import cluster

        self.require_starts()
        ingested, embedded = self.ingested_and(EMBED)
        inputs: dict[str, str] = {EMBED: embedded.fingerprint, INGEST: ingested.fingerprint}
        previous = self.previous(CLUSTER, self.settings.previous.clusters(), ingested.facts)
        made_by = self.made_by(CLUSTER, self.settings.cluster, inputs, previous=previous)
        self.unless_current(
            self.directory(CLUSTER),
            made_by,
            self.made_here(
                lambda target: cluster(
                    self.local(ingested),
                    self.local(embedded),
                    target,
                    self.settings.cluster,
                    self.settings.seed,
                    made_by,
                    self.local(previous) if previous else None,
                )
            ),
        )

    def rank(self) -> None:
        """Impressions, cluster IDs and embeddings to rankers, one per rank mode."""
        from courier_tf.ranking.train import rank
        from courier_tf.ranking.visual_features.registry import needs_embeddings

        self.require_starts()
        settings = self.settings.rank
        ingested, clustered = self.ingested_and(CLUSTER)
        inputs: dict[str, str] = {INGEST: ingested.fingerprint, CLUSTER: clustered.fingerprint}
        embedded: artefacts.Artefact[EmbedFacts] | None = None
        if needs_embeddings(settings.rank_modes):
            embedded = artefacts.read(self.directory(EMBED), EMBED)
            require_input(clustered, EMBED, embedded.fingerprint)
            inputs[EMBED] = embedded.fingerprint
        previous = self.previous(RANK, self.settings.previous.rankers(), ingested.facts)
        made_by = self.made_by(RANK, settings, inputs, previous=previous)
        self.unless_current(
            self.directory(RANK),
            made_by,
            self.made_here(
                lambda target: rank(
                    self.local(ingested),
                    self.local(clustered),
                    self.local(embedded) if embedded else None,
                    target,
                    settings,
                    self.settings.seed,
                    made_by,
                    self.trained(made_by),
                    self.local(previous) if previous else None,
                    self.workers,
                )
            ),
            together=True,
        )

    def export(self, scann: bool = False, servers: Sequence[str] = (), warm_up_log: Path | None = None) -> None:
        """Trained models to versioned SavedModels below `models/`, and the bundle of the server below `serving/`.

        Args:
            scann: write similar items by ScaNN below `models_scann/`, too.
            servers: HOST:PORT of running servers. Labels move once all have loaded the versions that they name.
            warm_up_log: log of requests that new versions warm up with.
        """
        from courier_tf.chain.exports import exports_here  # Here, as promotions import TensorFlow.
        from courier_tf.exporting.export import export
        from courier_tf.exporting.finished_stages import FinishedStages

        if self.place is None:
            with measured(self.workdir, EXPORT):
                export(FinishedStages.read(self.workdir), self.workdir, scann, servers, warm_up_log)
            return
        for stage in (INGEST, PRETRAIN, EMBED, CLUSTER, RANK):
            self.local(artefacts.read(self.directory(stage), stage))
        with exports_here(self.workdir, self.place):
            export(FinishedStages.read(self.workdir), self.workdir, scann, servers, warm_up_log)

    def report(self, final: bool = False) -> dict[str, Any]:
        """Writes `metrics.json`: what each stage measured, and with `final` the rankers on the test span.

        Raises:
            ArtefactError: stages are missing, or do not belong together.
        """
        from courier_tf.ranking.metrics_file import METRICS_FILE, READINGS_FILE, write_metrics

        ingested, ranked = self.ingested_and(RANK)
        clustered = artefacts.read(self.directory(CLUSTER), CLUSTER)
        trained = artefacts.read(self.directory(PRETRAIN), PRETRAIN)
        encoders = {str(PRETRAIN): trained}
        if SUPERVISED in trained.made_by.inputs:
            encoders[str(SUPERVISED)] = artefacts.read(self.directory(SUPERVISED), SUPERVISED)
        require_input(ranked, CLUSTER, clustered.fingerprint)
        require_encoder(clustered, encoders[PRETRAIN])
        if self.place is None:
            return write_metrics(self.workdir, ingested, encoders, clustered, ranked, final)
        needed: list[artefacts.Artefact[Any]] = [ingested, clustered, ranked, *encoders.values()]
        for artefact in needed:
            self.local(artefact)
        local = Chain(self.workdir, self.settings)
        with (
            exclusive(self.place / ".report.lock", ""),
            stored.changed_here(self.place, self.workdir, (READINGS_FILE, METRICS_FILE)),
        ):
            return local.report(final)

    def trained(self, made_by: MadeBy) -> dict[str, Path]:
        """Mode -> rank stage with the same ranker, which need not be trained again. A chain by itself knows none."""
        return {}
