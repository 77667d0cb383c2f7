"""Whether artefacts belong together: those of one run, and those of an earlier run that this one starts from."""

from typing import Any, TypeVar

from courier_tf.files.places import Place
from courier_tf.workdir.artefacts import Artefact, ArtefactError, read
from courier_tf.workdir.facts import ClusterFacts, EmbedFacts, EncoderFacts, Facts, IngestFacts, RankFacts
from courier_tf.workdir.stages import Stage

#: The facts of what a later run can start from.
P = TypeVar("P", EncoderFacts, ClusterFacts, RankFacts)


def require_input(artefact: Artefact[Any], name: str, fingerprint: str) -> None:
    """Refuses an artefact that was made from another input than the one at hand.

    Raises:
        ArtefactError: `artefact` was made from a `name` with another fingerprint.
    """
    used = artefact.made_by.inputs.get(name)
    if used != fingerprint:
        raise ArtefactError(
            f"{artefact.place} was made from {name} {used}, but {name} {fingerprint} is in use. "
            f"{artefact.made_by.remedy}"
        )


def require_encoder(artefact: Artefact[EmbedFacts] | Artefact[ClusterFacts], trained: Artefact[EncoderFacts]) -> None:
    """Refuses embeddings or clusters of another encoder than that of a pre-training.

    Raises:
        ArtefactError: they belong to another one.
    """
    used, wanted = artefact.facts.encoder, trained.facts.encoder
    if used != wanted:
        raise ArtefactError(
            f"{artefact.place} belongs to the encoder {used}, but {trained.place} holds {wanted}. "
            "Run 'courier embed' and 'courier cluster' again."
        )


def read_previous(directory: Place, stage: Stage[P], data: IngestFacts) -> Artefact[P]:
    """Reads the result of an earlier run, which must not know what comes after the spans of this run.

    Rankers were chosen on their valid span, so this span must not end later either.

    Args:
        directory, stage: as for `read`.
        data: facts of this run's ingest.

    Raises:
        ArtefactError: as `read`; or a span of the earlier run ended later than that of this run.
    """
    previous = read(directory, stage)
    facts: Facts = previous.facts
    ends = [("train", previous.facts.valid_from_seconds, data.valid_from_seconds)]
    if isinstance(facts, RankFacts):
        ends.append(("valid", facts.test_from_seconds, data.test_from_seconds))
    for span, ended, end in ends:
        if ended > end:
            raise ArtefactError(
                f"{directory} cannot be started from: its {span} span ends at {ended}, that of this run at {end} "
                "(seconds since 1970), and what comes later must not be known."
            )
    return previous
