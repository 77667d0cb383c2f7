"""The chain of stages: which one is still valid, in which order they run, where their results lie.

A stage whose inputs and settings have not changed is skipped; one that was interrupted goes on. Stages meet in files
alone: each is called with the directories of those before it.
"""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import Place, StorePlace, place_of
from courier_tf.process import release_memory
from courier_tf.settings import SUPERVISED_SETTINGS, PretrainSettings, Settings, SettingsError
from courier_tf.workdir import artefacts, stored
from courier_tf.workdir.artefacts import MadeBy, P
from courier_tf.workdir.atomic import exclusive, write_file
from courier_tf.workdir.facts import EmbedFacts, EncoderFacts, IngestFacts
from courier_tf.workdir.stages import CLUSTER, EMBED, FEATURES, IN_ORDER, INGEST, PRETRAIN, RANK, SUPERVISED, F, Stage

LOG = logging.getLogger(__name__)
SETTINGS_FILE = "settings.json"
PREVIOUS, FOREIGN = "previous", "init"  # Inputs of a stage: what it starts from.
STARTS = (PREVIOUS, FOREIGN, SUPERVISED)
HEAD = "head"  # The value of `trainable` with which the backbone is frozen.
#: The pre-training settings that encoders of photos do not depend on; of `init` the bytes count.
NOT_OF_PHOTOS = ("init", "features", "head")
#: The pre-training settings that heads do not depend on.
NOT_OF_HEADS = (
    "init", "backbone", "recompute", "supervised_steps", "supervised_batch_size", "supervised_learning_rate", "teacher",
)  # fmt: skip


def require_known_names(settings: Settings) -> None:
    """Refuses names in the settings that stand for nothing, before any stage begins.

    The settings lie below the rooms that know these names, so they cannot check them.

    Raises:
        SettingsError: names the setting, the value and what is known.
    """
    from courier_tf.pretrain.encoder import require_backbone
    from courier_tf.pretrain.objectives.distillation import Distillation
    from courier_tf.pretrain.objectives.registry import require_objective
    from courier_tf.ranking.image_features.registry import require_known

    require_objective(settings.pretrain)
    require_backbone(settings.pretrain)
    Distillation.check(settings.pretrain)
    require_known(settings.rank.rank_modes)
    if settings.pretrain.trainable == HEAD:
        _require_features(settings.pretrain)


def _require_features(settings: PretrainSettings) -> None:
    """Refuses settings of heads that stand for nothing, and those that only encoders of photos have.

    Raises:
        SettingsError: names the setting, the value and the way out.
    """
    from courier_tf.backbone.architectures import is_pretrained
    from courier_tf.features.sources import FeatureError, candidates_of

    default = PretrainSettings().backbone
    if settings.backbone != default and not is_pretrained(settings.backbone):
        raise SettingsError(
            f"backbone={settings.backbone} has to learn, but trainable={HEAD} trains a head on frozen features: add "
            f"--trainable all (--preset swin has settings for it), or leave the backbone at {default}"
        )
    if settings.init:
        raise SettingsError(
            f"init={settings.init} gives a backbone weights to learn on from, but trainable={HEAD} trains a head on "
            "frozen features: add --trainable all"
        )
    try:
        candidates_of(settings.features, settings.backbone)
    except FeatureError as error:
        raise SettingsError(str(error)) from error


def _fingerprint_of_features(directories: Iterable[Place]) -> str:
    """16 hex digits over the features of several sources."""
    return artefacts.fingerprint_of([artefacts.read(directory, FEATURES).fingerprint for directory in directories])


def _resolved(place: Place) -> Place:
    return place.resolve() if isinstance(place, Path) else place


@dataclasses.dataclass(frozen=True)
class Chain:
    """One workdir and the settings it is run with.

    Attributes:
        workdir: holds one directory per stage, `models/`, `metrics.json` and `settings.json`.
        settings: of all stages.
        beam_options: Beam's own command-line options, for the jobs.
        force: names of stages that are made again, even if nothing has changed.
        place: the workdir on a store, where the results lie. `workdir` then holds copies of them, for the stages that
            need files of this machine; Beam jobs do not.

    Raises:
        SettingsError: `force` names something that is not a stage.
    """

    workdir: Path
    settings: Settings
    beam_options: Sequence[str] = ()
    force: frozenset[str] = frozenset()
    place: StorePlace | None = None

    def __post_init__(self) -> None:
        unknown = sorted(self.force - set(IN_ORDER))
        if unknown:
            raise SettingsError(f"force: there is no stage '{unknown[0]}'. Stages: {', '.join(IN_ORDER)}")

    def directory(self, stage: str) -> Place:
        """Where the result of a stage lies."""
        return (self.place or self.workdir) / stage

    def _local(self, artefact: artefacts.Artefact[Any]) -> Path:
        """The files of a stage on this machine."""
        return stored.local_copy(artefact, self.workdir / self._below(artefact.place))

    def _below(self, files: Place) -> str:
        """Where in `workdir` the copy of a stage belongs. Those of earlier runs lie apart."""
        stage = str(files).rpartition("/")[0]
        inside = stage.removeprefix(f"{self.place}/")
        return inside if inside != stage else f".previous/{artefacts.fingerprint_of(stage)}"

    def _made_here(self, make: Callable[[Path], object]) -> Callable[[Place], object]:
        """A stage that writes files of this machine, for any target: on a store the result is copied there."""

        def make_and_publish(target: Place) -> None:
            if isinstance(target, Path):
                make(target)
                return
            local = self.workdir / str(target).removeprefix(f"{self.place}/")
            make(local)
            stored.publish(local, target)

        return make_and_publish

    def write_settings(self) -> None:
        """Writes the resolved settings into the workdir.

        Raises:
            SettingsError: a name in the settings stands for nothing. The stage would find out hours later.
        """
        require_known_names(self.settings)
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
        self._require_starts()
        self.write_settings()
        self.ingest(raw)
        self.pretrain()
        self.embed()
        self.cluster()
        self.rank()
        self.export(servers=servers)
        return self.report(final)

    def ingest(self, raw: str) -> None:
        """Raw logs and photos to TFRecords.

        Raises:
            SettingsError: a later stage is to use a column that items do not have. It would find out hours later.
        """
        from beam_jobs.ingest import fingerprint_of_raw, ingest
        from beam_jobs.ingest_report import report

        fingerprint = fingerprint_of_raw(raw, self.settings.ingest.follow_links)
        made_by = self._made_by(INGEST, self.settings.ingest, {"raw": fingerprint}, seeded=False)
        self._unless_current(
            self.directory(INGEST),
            made_by,
            lambda target: ingest(raw, target, self.settings.ingest, made_by, self.beam_options),
        )
        facts = artefacts.read(self.directory(INGEST), INGEST).facts
        for line in report(facts, self.settings.ingest):
            LOG.info("[ingest] %s", line)
        self.settings.require_columns(facts.all_columns)

    def pretrain(self) -> None:
        """Trains the encoder: supervised pre-training on the catalogue's columns or a teacher, then the objective.

        An earlier encoder, a file of foreign weights, or those that come with the backbone's name stand in for
        supervised pre-training.
        """
        from courier_tf.backbone.architectures import is_pretrained
        from courier_tf.pretrain.train import pretrain

        require_known_names(self.settings)
        self._require_starts()
        settings, seed = self.settings.pretrain, self.settings.seed
        ingested = artefacts.read(self.directory(INGEST), INGEST)
        if self._has_notebook_encoder(ingested):
            return
        inputs: dict[str, str] = {INGEST: ingested.fingerprint}
        previous = self._previous(PRETRAIN, self.settings.previous.encoder(), ingested.facts)
        if settings.trainable == HEAD:
            self._pretrain_heads(ingested, inputs, previous)
            return
        start: artefacts.Artefact[EncoderFacts] | Path | None = previous
        if previous:
            pass
        elif settings.init:
            start = Path(settings.init)
            inputs[FOREIGN] = artefacts.fingerprint_of_file(start)
        elif not is_pretrained(settings.backbone):
            start = self._supervised(ingested)
            inputs[SUPERVISED] = start.fingerprint
        values = {name: value for name, value in dataclasses.asdict(settings).items() if name not in NOT_OF_PHOTOS}
        made_by = self._made_by(PRETRAIN, values, inputs, previous=previous)
        self._unless_current(
            self.directory(PRETRAIN),
            made_by,
            self._made_here(
                lambda target: pretrain(
                    self._local(ingested),
                    self._local(start) if isinstance(start, artefacts.Artefact) else start,
                    target,
                    settings,
                    seed,
                    made_by,
                )
            ),
        )

    def _pretrain_heads(
        self,
        ingested: artefacts.Artefact[IngestFacts],
        inputs: dict[str, str],
        previous: artefacts.Artefact[EncoderFacts] | None,
    ) -> None:
        """Computes the features of all photos once, then trains a head on those of each candidate.

        Raises:
            SettingsError: a feature source does not exist, or the previous encoder takes photos.
        """
        from courier_tf.features.sources import JOIN, Pixels, candidates_of
        from courier_tf.pretrain.objectives.registry import augments
        from courier_tf.pretrain.train_heads import pretrain_heads

        settings, seed = self.settings.pretrain, self.settings.seed
        candidates = candidates_of(settings.features, settings.backbone)
        if previous:
            if not previous.facts.features:
                raise SettingsError(
                    f"trainable={HEAD} and previous_encoder={previous.place}: that encoder takes photos. Take "
                    "--trainable all, or add --previous-encoder none"
                )
            candidates = [previous.facts.features]
        sources = list(dict.fromkeys([Pixels.source, *(source for names in candidates for source in names)]))
        features = self._features(ingested, sources, augments(settings))
        inputs = inputs | {FEATURES: _fingerprint_of_features(features.values())}
        values = {name: value for name, value in dataclasses.asdict(settings).items() if name not in NOT_OF_HEADS}
        values["features"] = [JOIN.join(names) for names in candidates]
        made_by = self._made_by(PRETRAIN, values, inputs, previous=previous)
        self._unless_current(
            self.directory(PRETRAIN),
            made_by,
            self._made_here(
                lambda target: pretrain_heads(
                    self._local(ingested),
                    self._local_features(features),
                    candidates,
                    self._local(previous) if previous else None,
                    target,
                    settings,
                    seed,
                    made_by,
                )
            ),
        )

    def _features(
        self, ingested: artefacts.Artefact[IngestFacts], sources: Sequence[str], views: bool
    ) -> dict[str, Place]:
        """The features of all photos, each source for itself. Settings of heads do not touch them.

        Returns:
            Source -> its directory.
        """
        from beam_jobs.features import features
        from courier_tf.features.extractor import VIEWS
        from courier_tf.features.sources import inputs_of

        number = VIEWS if views else 0
        made_of: dict[str, Place] = {}
        for source in sources:
            values = {"source": source, "views": number, **dataclasses.asdict(self.settings.embed)}
            inputs = {INGEST: ingested.fingerprint, **inputs_of(source)}
            made_by = self._made_by(FEATURES, values, inputs, seeded=False)
            made_of[source] = target = self.features_directory(source)
            if isinstance(target, Path):
                target.parent.mkdir(parents=True, exist_ok=True)
            make = functools.partial(
                features,
                self.directory(INGEST),
                source=source,
                views=number,
                settings=self.settings.embed,
                made_by=made_by,
                beam_options=self.beam_options,
            )
            self._unless_current(target, made_by, make, f"{FEATURES} {source}")
        return made_of

    def _local_features(self, features: Mapping[str, Place]) -> dict[str, Path]:
        return {source: self._local(artefacts.read(place, FEATURES)) for source, place in features.items()}

    def features_directory(self, source: str) -> Place:
        """Where the features of a source lie."""
        from courier_tf.features.files import folder_of

        return self.directory(FEATURES) / folder_of(source)

    def _has_notebook_encoder(self, ingested: artefacts.Artefact[IngestFacts]) -> bool:
        """Whether the workdir holds an encoder from a notebook, which pre-training must not replace.

        Raises:
            ArtefactError: it does, but the encoder was trained on another ingest, or is damaged.
        """
        directory = self.directory(PRETRAIN)
        if PRETRAIN in self.force or not artefacts.comes_from_notebook(directory):
            return False
        artefacts.require_input(artefacts.read(directory, PRETRAIN), INGEST, ingested.fingerprint)
        LOG.info(
            "[%s] keeps the encoder in %s, which comes from a notebook (--force pretrain trains one)",
            PRETRAIN,
            directory,
        )
        return True

    def _supervised(self, ingested: artefacts.Artefact[IngestFacts]) -> artefacts.Artefact[EncoderFacts]:
        """Supervised pre-training. Settings of the objective do not touch it: all objectives share one encoder."""
        from courier_tf.features.sources import Pixels, sources_of
        from courier_tf.pretrain.train_supervised import pretrain_supervised

        settings, directory = self.settings.pretrain, self.directory(SUPERVISED)
        inputs: dict[str, str] = {INGEST: ingested.fingerprint}
        features: dict[str, Place] | None = None
        if settings.teacher:
            # Those that a head on the teacher's features has, so that runs of an experiment share them.
            sources = list(dict.fromkeys([Pixels.source, *sources_of(settings.teacher, "teacher")]))
            features = self._features(ingested, sources, views=False)
            inputs[FEATURES] = _fingerprint_of_features(features.values())
        values = {name: value for name, value in dataclasses.asdict(settings).items() if name in SUPERVISED_SETTINGS}
        made_by = self._made_by(SUPERVISED, values, inputs)
        self._unless_current(
            directory,
            made_by,
            self._made_here(
                lambda target: pretrain_supervised(
                    self._local(ingested),
                    self._local_features(features) if features else None,
                    target,
                    settings,
                    self.settings.seed,
                    made_by,
                )
            ),
        )
        return artefacts.read(directory, SUPERVISED)

    def _previous(self, stage: Stage[P], directory: Place | None, data: IngestFacts) -> artefacts.Artefact[P] | None:
        """The result of an earlier run that a stage starts from; refused where it knows the future of this run."""
        if directory is None:
            return None
        if _resolved(directory) == _resolved(self.directory(stage)):
            raise artefacts.ArtefactError(
                f"{directory} cannot be started from: the stage '{stage}' of this run writes it. Start from a snapshot "
                f"({self.workdir / schema.PROMOTED_FOLDER}, which 'courier export --promote' writes), or from a copy"
            )
        return artefacts.read_previous(directory, stage, data)

    def embed(self) -> None:
        """Items to embeddings."""
        from beam_jobs.embed import embed
        from courier_tf.pretrain.encoder_stage import EMBEDDER_FOLDER

        ingested, trained = self._ingested_and(PRETRAIN)
        inputs = {INGEST: ingested.fingerprint, "encoder": trained.facts.encoder}
        features = self._features_of(trained)
        if features:
            inputs[FEATURES] = _fingerprint_of_features(features)
        made_by = self._made_by(EMBED, self.settings.embed, inputs, seeded=False)
        self._unless_current(
            self.directory(EMBED),
            made_by,
            lambda target: embed(
                self.directory(INGEST),
                trained.place / EMBEDDER_FOLDER,
                trained.facts.encoder,
                target,
                self.settings.embed,
                made_by,
                self.beam_options,
                features,
            ),
        )

    def _features_of(self, trained: artefacts.Artefact[EncoderFacts]) -> list[Place]:
        """The features that an encoder was trained on; none where photos have to be read."""
        if FEATURES not in trained.made_by.inputs:
            return []
        directories = [self.features_directory(source) for source in trained.facts.features]
        return directories if all(map(transfer.exists, directories)) else []

    def cluster(self) -> None:
        """Embeddings to cluster IDs."""
        from courier_tf.clusters.cluster import cluster

        self._require_starts()
        ingested, embedded = self._ingested_and(EMBED)
        inputs: dict[str, str] = {EMBED: embedded.fingerprint, INGEST: ingested.fingerprint}
        previous = self._previous(CLUSTER, self.settings.previous.clusters(), ingested.facts)
        made_by = self._made_by(CLUSTER, self.settings.cluster, inputs, previous=previous)
        self._unless_current(
            self.directory(CLUSTER),
            made_by,
            self._made_here(
                lambda target: cluster(
                    self._local(ingested),
                    self._local(embedded),
                    target,
                    self.settings.cluster,
                    self.settings.seed,
                    made_by,
                    self._local(previous) if previous else None,
                )
            ),
        )

    def rank(self) -> None:
        """Impressions, cluster IDs and embeddings to rankers, one per image-feature mode."""
        from courier_tf.ranking.image_features.registry import needs_embeddings
        from courier_tf.ranking.train import rank

        self._require_starts()
        settings = self.settings.rank
        ingested, clustered = self._ingested_and(CLUSTER)
        inputs: dict[str, str] = {INGEST: ingested.fingerprint, CLUSTER: clustered.fingerprint}
        embedded: artefacts.Artefact[EmbedFacts] | None = None
        if needs_embeddings(settings.rank_modes):
            embedded = artefacts.read(self.directory(EMBED), EMBED)
            artefacts.require_input(clustered, EMBED, embedded.fingerprint)
            inputs[EMBED] = embedded.fingerprint
        previous = self._previous(RANK, self.settings.previous.rankers(), ingested.facts)
        made_by = self._made_by(RANK, settings, inputs, previous=previous)
        self._unless_current(
            self.directory(RANK),
            made_by,
            self._made_here(
                lambda target: rank(
                    self._local(ingested),
                    self._local(clustered),
                    self._local(embedded) if embedded else None,
                    target,
                    settings,
                    self.settings.seed,
                    made_by,
                    self._trained(made_by),
                    self._local(previous) if previous else None,
                )
            ),
        )

    def _trained(self, made_by: MadeBy) -> dict[str, Path]:
        """Mode -> rank stage with the same ranker, which need not be trained again. A chain by itself knows none."""
        return {}

    def export(self, scann: bool = False, servers: Sequence[str] = (), warm_up_log: Path | None = None) -> None:
        """Trained models to versioned SavedModels below `models/`, and the bundle of the server below `serving/`.

        Args:
            scann: write similar items by ScaNN below `models_scann/`, too.
            servers: HOST:PORT of running servers. Labels move once all have loaded the versions that they name.
            warm_up_log: log of requests that new versions warm up with.
        """
        from courier_tf.exporting.export import export
        from courier_tf.exporting.finished_stages import FinishedStages

        if self.place is None:
            export(FinishedStages.read(self.workdir), self.workdir, scann, servers, warm_up_log)
            return
        for stage in (INGEST, PRETRAIN, EMBED, CLUSTER, RANK):
            self._local(artefacts.read(self.directory(stage), stage))
        folders = (schema.MODELS_FOLDER, schema.BUNDLE_FOLDER, schema.SCANN_MODELS_FOLDER)
        with exclusive(self.place / ".export.lock", ""), stored.changed_here(self.place, self.workdir, folders):
            export(FinishedStages.read(self.workdir), self.workdir, scann, servers, warm_up_log)

    def report(self, final: bool = False) -> dict[str, Any]:
        """Writes `metrics.json`: what each stage measured, and with `final` the rankers on the test span.

        Raises:
            ArtefactError: stages are missing, or do not belong together.
        """
        from courier_tf.ranking.metrics_file import METRICS_FILE, READINGS_FILE, write_metrics

        ingested, ranked = self._ingested_and(RANK)
        clustered = artefacts.read(self.directory(CLUSTER), CLUSTER)
        trained = artefacts.read(self.directory(PRETRAIN), PRETRAIN)
        encoders = {str(PRETRAIN): trained}
        if SUPERVISED in trained.made_by.inputs:
            encoders[str(SUPERVISED)] = artefacts.read(self.directory(SUPERVISED), SUPERVISED)
        artefacts.require_input(ranked, CLUSTER, clustered.fingerprint)
        artefacts.require_encoder(clustered, encoders[PRETRAIN])
        if self.place is None:
            return write_metrics(self.workdir, ingested, encoders, clustered, ranked, final)
        needed: list[artefacts.Artefact[Any]] = [ingested, clustered, ranked, *encoders.values()]
        for artefact in needed:
            self._local(artefact)
        local = Chain(self.workdir, self.settings)
        with (
            exclusive(self.place / ".report.lock", ""),
            stored.changed_here(self.place, self.workdir, (READINGS_FILE, METRICS_FILE)),
        ):
            return local.report(final)

    def _ingested_and(self, stage: Stage[F]) -> tuple[artefacts.Artefact[IngestFacts], artefacts.Artefact[F]]:
        """The results of ingest and of another stage, which must have been made from this ingest."""
        ingested = artefacts.read(self.directory(INGEST), INGEST)
        other = artefacts.read(self.directory(stage), stage)
        if INGEST in other.made_by.inputs:
            artefacts.require_input(other, INGEST, ingested.fingerprint)
        return ingested, other

    def _made_by(
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

    def _require_starts(self) -> None:
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

    def _unless_current(
        self, target: Place, made_by: MadeBy, make: Callable[[Place], object], name: str | None = None
    ) -> None:
        name = name or made_by.stage
        waiting = f"[{name}] another process is making {target}: waiting for it"
        with exclusive(target.with_name(f".{target.name}.lock"), waiting):
            reason = "it is forced" if made_by.stage in self.force else artefacts.why_stale(target, made_by)
            if reason is None:
                LOG.info("[%s] unchanged, skipped", name)
                return
            if transfer.exists(target):
                LOG.info("[%s] is made again: %s", name, reason)
            started = time.monotonic()
            LOG.info("[%s] ...", name)
            make(target)
            release_memory()
            LOG.info("[%s] done in %.0f s", name, time.monotonic() - started)
