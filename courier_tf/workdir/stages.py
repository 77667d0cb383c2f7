"""The names of the stages, each with the type of its facts."""

from typing import Any, Generic, TypeVar

from courier_tf.workdir.facts import (
    ClusterFacts,
    EmbedFacts,
    EncoderFacts,
    Facts,
    FeatureFacts,
    IngestFacts,
    RankFacts,
    VersionFacts,
)

F = TypeVar("F", bound=Facts)


class Stage(str, Generic[F]):
    """The name of a stage, which is the name of its folder, too.

    Args:
        name: of the stage.
        facts: the class of its facts, so that `artefacts.read(directory, INGEST).facts` has a known type.
        entry: the modules whose code makes the result, with all that they import.
        without: modules that they import, but that do not touch the result.

    >>> f"{INGEST}: {INGEST.facts.__name__}"
    'ingest: IngestFacts'
    """

    facts: type[F]
    entry: tuple[str, ...]
    without: tuple[str, ...]

    def __new__(cls, name: str, facts: type[F], entry: tuple[str, ...], without: tuple[str, ...] = ()) -> "Stage[F]":
        stage = super().__new__(cls, name)
        stage.facts, stage.entry, stage.without = facts, entry, without
        return stage

    def __getnewargs__(self) -> tuple[Any, ...]:
        return str(self), self.facts, self.entry, self.without


INGEST = Stage("ingest", IngestFacts, ("beam_jobs.ingest",))
FEATURES = Stage("features", FeatureFacts, ("beam_jobs.features",))
# The objectives train what supervised pre-training leaves.
SUPERVISED = Stage(
    "supervised",
    EncoderFacts,
    ("courier_tf.pretrain.train_supervised",),
    without=("courier_tf.pretrain.objectives.registry",),
)
PRETRAIN = Stage("pretrain", EncoderFacts, ("courier_tf.pretrain.train", "courier_tf.pretrain.train_heads"))
EMBED = Stage("embed", EmbedFacts, ("beam_jobs.embed",))
CLUSTER = Stage("cluster", ClusterFacts, ("courier_tf.clusters.cluster",))
RANK = Stage("rank", RankFacts, ("courier_tf.ranking.train",))
EXPORT = Stage("export", VersionFacts, ("courier_tf.exporting.registry", "courier_tf.exporting.versions"))

#: The stages that write one folder each, in the order in which they run.
IN_ORDER: tuple[Stage[Any], ...] = (INGEST, FEATURES, SUPERVISED, PRETRAIN, EMBED, CLUSTER, RANK)
#: Every stage by its name.
BY_NAME: dict[str, Stage[Any]] = {str(stage): stage for stage in (*IN_ORDER, EXPORT)}
