"""How a stage writes what it made, and how the next one reads it.

A stage builds its directory aside and renames it when it is whole, so nothing half-written is ever picked up. Inside
stands `artefact.json`: what made it (stage, settings, code version, fingerprints of the inputs), its facts, and the
fingerprint of its own content, which the next stage records in turn. Two runs that write the same bytes have the same
fingerprint.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import courier_tf
from courier_tf.workdir.atomic import replace_directory, write_file
from courier_tf.workdir.facts import ClusterFacts, EmbedFacts, EncoderFacts, Facts, FactsError, IngestFacts, RankFacts
from courier_tf.workdir.stages import BY_NAME, PRETRAIN, SUPERVISED, F, Stage

ARTEFACT_FILE = "artefact.json"
MARKER_FILE = "made_by.json"  # In a folder that is still being filled.
NOT_KEPT = ("logs", "checkpoints")  # Nobody reads these folders of a finished stage.
# Times of day and event files differ from run to run; the rest is there only while a folder is sealed.
NOT_FINGERPRINTED = (*NOT_KEPT, ARTEFACT_FILE, MARKER_FILE, f".{ARTEFACT_FILE}.partial")


#: The facts of what a later run can start from.
P = TypeVar("P", EncoderFacts, ClusterFacts, RankFacts)


class ArtefactError(ValueError):
    """An artefact is missing, broken, or made by something that does not fit the stage that wants to read it."""


@dataclasses.dataclass(frozen=True)
class MadeBy:
    """What determines an artefact: equal `MadeBy`, equal artefact."""

    stage: str
    settings: dict[str, Any]
    inputs: dict[str, str]  # Name of the input -> fingerprint of its content.
    code_version: str = courier_tf.__version__

    @property
    def key(self) -> str:
        """Fingerprint of these facts, 16 hex digits."""
        return fingerprint_of(dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Artefact(Generic[F]):
    """A finished directory, and what stands in its `artefact.json`."""

    path: Path
    made_by: MadeBy
    fingerprint: str
    facts: F


@dataclasses.dataclass
class Draft:
    """A directory that a stage is filling.

    Attributes:
        path: the folder to fill.
        facts: what the stage tells the stages after it. It must be set before the folder is sealed.
    """

    path: Path
    facts: Facts | None = None


def fingerprint_of(value: Any) -> str:
    """16 hex digits over the canonical JSON of `value` (dicts in any order give the same)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_of_file(file: Path) -> str:
    """16 hex digits over the bytes of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def fingerprint_of_tree(directory: Path) -> str:
    """16 hex digits over the names and bytes of all files below `directory`, logs and checkpoints left out."""
    digest = hashlib.sha256()
    for file in sorted(p for p in directory.rglob("*") if p.is_file()):
        relative = file.relative_to(directory)
        if not set(relative.parts) & set(NOT_FINGERPRINTED):
            digest.update(str(relative).encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def write_aside(target: Path, made_by: MadeBy, *, keep_partial: bool = False) -> Iterator[Draft]:
    """Yields a draft to fill. On success seals it and renames its folder to `target`.

    With `keep_partial`, an interrupted run with the same `made_by` goes on, as in `sealed`. After an exception `target`
    is untouched.

    Raises:
        FactsError: the stage has set no facts, or facts that are not its own.
    """
    with sealed(target, made_by, keep_partial=keep_partial) as draft:
        yield draft
    replace_directory(draft.path, target)


@contextlib.contextmanager
def sealed(target: Path, made_by: MadeBy, *, keep_partial: bool = False) -> Iterator[Draft]:
    """Yields a draft to fill. On success its folder only needs to be renamed to `target`.

    With `keep_partial`, what an interrupted run with the same `made_by` left in the folder is still there: stages that
    keep checkpoints use it to go on. Otherwise the folder starts empty.

    Raises:
        FactsError: the stage has set no facts, or facts that are not its own.
    """
    partial = partial_of(target)
    marker = partial / MARKER_FILE
    description = json.dumps(dataclasses.asdict(made_by), sort_keys=True, default=str)
    if not (keep_partial and marker.exists() and marker.read_text() == description):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            write_file(marker, description)
        except OSError:  # Not even that fits on the disk: nobody knows of the folder yet who could remove it.
            shutil.rmtree(partial, ignore_errors=True)
            raise
    draft = Draft(partial)
    yield draft
    content = {
        "made_by": dataclasses.asdict(made_by),
        "key": made_by.key,
        "fingerprint": fingerprint_of_tree(partial),
        "facts": _checked(made_by.stage, draft.facts),
    }
    write_file(partial / ARTEFACT_FILE, json.dumps(content, indent=2, default=str))
    marker.unlink()  # Last: who is killed before it goes on with what is there.


def _checked(stage: str, facts: Facts | None) -> dict[str, Any]:
    wanted = BY_NAME[stage].facts
    if not isinstance(facts, wanted):
        raise FactsError(f"the stage '{stage}' must set {wanted.__name__}, but has set {facts!r}")
    return facts.to_json()


def partial_of(target: Path) -> Path:
    """The folder in which an artefact is filled."""
    return target.with_name(f".{target.name}.partial")


def read(directory: Path, stage: Stage[F]) -> Artefact[F]:
    """Reads the artefact in `directory`.

    Raises:
        ArtefactError: there is none, it is unreadable, or another stage made it.
    """
    file = directory / ARTEFACT_FILE
    again = f"Run 'courier {command_of(stage)}' again."
    if not file.exists():
        raise ArtefactError(
            f"{directory} holds no finished result of the stage '{stage}'. Run 'courier {command_of(stage)}' first."
        )
    try:
        content = json.loads(file.read_text())
        made_by, fingerprint, facts = MadeBy(**content["made_by"]), content["fingerprint"], content["facts"]
    except (ValueError, KeyError, TypeError) as error:  # No text, no JSON, or something else.
        raise ArtefactError(f"{file} is not an artefact description: {error!r}. {again}") from error
    if made_by.stage != stage:
        raise ArtefactError(f"{directory} was made by the stage '{made_by.stage}', but '{stage}' is needed here.")
    try:
        return Artefact(directory, made_by, fingerprint, stage.facts.from_json(facts))
    except FactsError as error:
        raise ArtefactError(f"{file}: {error}. {again}") from error


def command_of(stage: str) -> str:
    """The command that runs a stage."""
    return PRETRAIN if stage == SUPERVISED else stage


def is_current(directory: Path, made_by: MadeBy) -> bool:
    """Whether `directory` holds a finished artefact made by exactly this."""
    try:
        return read(directory, BY_NAME[made_by.stage]).made_by.key == made_by.key
    except ArtefactError:
        return False


def require_input(artefact: Artefact[Any], name: str, fingerprint: str) -> None:
    """Refuses an artefact that was made from another input than the one at hand.

    Raises:
        ArtefactError: `artefact` was made from a `name` with another fingerprint.
    """
    used = artefact.made_by.inputs.get(name)
    if used != fingerprint:
        raise ArtefactError(
            f"{artefact.path} was made from {name} {used}, but {name} {fingerprint} is in use. "
            f"Run 'courier {command_of(artefact.made_by.stage)}' again."
        )


def require_encoder(artefact: Artefact[EmbedFacts] | Artefact[ClusterFacts], trained: Artefact[EncoderFacts]) -> None:
    """Refuses embeddings or clusters of another encoder than that of a pre-training.

    Raises:
        ArtefactError: they belong to another one.
    """
    used, wanted = artefact.facts.encoder, trained.facts.encoder
    if used != wanted:
        raise ArtefactError(
            f"{artefact.path} belongs to the encoder {used}, but {trained.path} holds {wanted}. "
            "Run 'courier embed' and 'courier cluster' again."
        )


def read_previous(directory: Path, stage: Stage[P], data: IngestFacts) -> Artefact[P]:
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
