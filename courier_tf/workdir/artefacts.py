"""How a stage writes what it made, and how the next one reads it.

A stage builds its directory aside and renames it when it is whole, so nothing half-written is ever picked up. Inside
stands `artefact.json`: what made it (stage, settings, code version, fingerprints of the inputs), and the fingerprint of
its own content, which the next stage records in turn. Two runs that write the same bytes have the same fingerprint.
"""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import courier_tf
from courier_tf.workdir.atomic import replace_directory, write_file

ARTEFACT_FILE = "artefact.json"
MARKER_FILE = "made_by.json"  # In a folder that is still being filled.
# Times of day and event files differ from run to run; the rest is there only while a folder is sealed.
NOT_FINGERPRINTED = ("logs", "checkpoints", ARTEFACT_FILE, MARKER_FILE, f".{ARTEFACT_FILE}.partial")


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
class Artefact:
    """A finished directory, and what stands in its `artefact.json`."""

    path: Path
    made_by: MadeBy
    fingerprint: str
    facts: dict[str, Any]  # Stage-specific: counts, dates, scores.


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
def write_aside(target: Path, made_by: MadeBy, *, keep_partial: bool = False) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields (folder to fill, facts to fill); on success seals the folder and renames it to `target`.

    With `keep_partial`, an interrupted run with the same `made_by` is gone on with, as in `sealed`. After an exception
    `target` is untouched.
    """
    with sealed(target, made_by, keep_partial=keep_partial) as (partial, facts):
        yield partial, facts
    replace_directory(partial, target)


@contextlib.contextmanager
def sealed(target: Path, made_by: MadeBy, *, keep_partial: bool = False) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields (folder to fill, facts to fill); on success the folder lacks nothing but to be renamed to `target`.

    With `keep_partial`, what an interrupted run with the same `made_by` left in the folder is still there: stages that
    keep checkpoints use it to go on. Otherwise the folder starts empty.
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
    facts: dict[str, Any] = {}
    yield partial, facts
    content = {
        "made_by": dataclasses.asdict(made_by),
        "key": made_by.key,
        "fingerprint": fingerprint_of_tree(partial),
        "facts": facts,
    }
    write_file(partial / ARTEFACT_FILE, json.dumps(content, indent=2, default=str))
    marker.unlink()  # Last: who is killed before it goes on with what is there.


def partial_of(target: Path) -> Path:
    """The folder in which an artefact is filled."""
    return target.with_name(f".{target.name}.partial")


def read(directory: Path, stage: str) -> Artefact:
    """Reads the artefact in `directory`.

    Raises:
        ArtefactError: there is none, it is unreadable, or another stage made it.
    """
    file = directory / ARTEFACT_FILE
    if not file.exists():
        raise ArtefactError(
            f"{directory} holds no finished result of the stage '{stage}'. Run 'courier {stage}' first."
        )
    try:
        content = json.loads(file.read_text())
        found = Artefact(directory, MadeBy(**content["made_by"]), content["fingerprint"], content["facts"])
    except (ValueError, KeyError, TypeError) as error:  # No text, no JSON, or something else.
        raise ArtefactError(f"{file} is not an artefact description: {error!r}") from error
    made_by = found.made_by
    if made_by.stage != stage:
        raise ArtefactError(f"{directory} was made by the stage '{made_by.stage}', but '{stage}' is needed here.")
    return found


def is_current(directory: Path, made_by: MadeBy) -> bool:
    """Whether `directory` holds a finished artefact made by exactly this."""
    try:
        return read(directory, made_by.stage).made_by.key == made_by.key
    except ArtefactError:
        return False


def require_input(artefact: Artefact, name: str, fingerprint: str) -> None:
    """Refuses an artefact that was made from another input than the one at hand.

    Raises:
        ArtefactError: `artefact` was made from a `name` with another fingerprint.
    """
    found = artefact.made_by.inputs.get(name)
    if found != fingerprint:
        raise ArtefactError(
            f"{artefact.path} was made from {name} {found}, but {name} {fingerprint} is in use. "
            f"Run 'courier {artefact.made_by.stage}' again."
        )


def require_encoder(artefact: Artefact, pretrained: Artefact) -> None:
    """Refuses embeddings or clusters of another encoder than that of a pre-training.

    Raises:
        ArtefactError: they belong to another one.
    """
    own, wanted = artefact.facts["encoder"], pretrained.facts["encoder"]
    if own != wanted:
        raise ArtefactError(
            f"{artefact.path} belongs to the encoder {own}, but {pretrained.path} holds {wanted}. "
            "Run 'courier embed' and 'courier cluster' again."
        )


#: Where a span ends, by the fact that tells it.
SPAN_OF = {"valid_from_seconds": "train", "test_from_seconds": "valid"}


def read_past(directory: Path, stage: str, **ends: int) -> Artefact:
    """Reads the artefact of an earlier run, which must not know what comes after the spans at hand.

    Args:
        directory, stage: as for `read`.
        ends: where spans end at hand, by the name of the fact: `valid_from_seconds`, and of a stage that has chosen
            something on its valid span `test_from_seconds`.

    Raises:
        ArtefactError: as `read`; or one of its own spans, of which its facts tell, ended later.
    """
    former = read(directory, stage)
    for name, end in ends.items():
        ended = former.facts.get(name)
        if ended is None:
            raise ArtefactError(
                f"{directory} does not tell where its {SPAN_OF[name]} span ends. Version "
                f"{former.made_by.code_version} of the code made it: make it anew."
            )
        if ended > end:
            raise ArtefactError(
                f"{directory} cannot be started from: its {SPAN_OF[name]} span ends at {ended}, that of this run at "
                f"{end} (seconds since 1970), and what comes later must not be known."
            )
    return former
