"""The names of the stages, each with the type of its facts."""

from typing import Generic, TypeVar

from courier_tf.workdir.facts import (
    ClusterFacts,
    EmbedFacts,
    EncoderFacts,
    Facts,
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

    >>> f"{INGEST}: {INGEST.facts.__name__}"
    'ingest: IngestFacts'
    """

    facts: type[F]

    def __new__(cls, name: str, facts: type[F]) -> "Stage[F]":
        stage = super().__new__(cls, name)
        stage.facts = facts
        return stage

    def __getnewargs__(self) -> tuple[str, type[F]]:  # type: ignore[override]  # For copies and pickles.
        return str(self), self.facts


INGEST = Stage("ingest", IngestFacts)
SUPERVISED = Stage("supervised", EncoderFacts)
PRETRAIN = Stage("pretrain", EncoderFacts)
EMBED = Stage("embed", EmbedFacts)
CLUSTER = Stage("cluster", ClusterFacts)
RANK = Stage("rank", RankFacts)
EXPORT = Stage("export", VersionFacts)

#: The stages that write one folder each, in the order in which they run.
IN_ORDER = (INGEST, SUPERVISED, PRETRAIN, EMBED, CLUSTER, RANK)
#: Every stage by its name.
BY_NAME = {str(stage): stage for stage in (*IN_ORDER, EXPORT)}
