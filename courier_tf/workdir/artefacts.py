"""How a stage writes what it made, and how the next one reads it.

A stage builds its directory aside and renames it when it is whole, so nothing half-written is ever picked up. Inside
stands `artefact.json`:

- what made it: the stage, its settings, fingerprints of its inputs and of the source code;
- its facts, for the stages after it;
- size, time and checksum of each file, which are compared before the artefact is used (`verify`);
- a checksum of the description itself;
- the fingerprint of its content, which the next stage records in turn. Two runs that write the same bytes have the same
  fingerprint.
"""

import contextlib
import contextvars
import dataclasses
import json
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Generic

from courier_tf.escaping import printable
from courier_tf.files import transfer
from courier_tf.files.places import MissingFileError, Place, StorePlace
from courier_tf.typed_json import JsonError, fields_of, parse_json, read_json, require_kind
from courier_tf.workdir import checksums
from courier_tf.workdir.atomic import replace_directory, write_file
from courier_tf.workdir.checksums import FileState
from courier_tf.workdir.facts import Facts, FactsError
from courier_tf.workdir.provenance import FROM_NOTEBOOK, MadeBy, command_of, fingerprint_of
from courier_tf.workdir.stages import BY_NAME, F, Stage

LOG = logging.getLogger(__name__)
ARTEFACT_FILE = "artefact.json"
MOST_CHANGES = 3  # Named in a message.
CHECKSUM = "checksum"  # In a description: of all else in it but times and the folder. Older ones have none.
FOLDER = "folder"  # In a description on a store: the folder of the files, beside it.
MARKER_FILE = "made_by.json"  # In a folder that is still being filled.
#: Files that are no part of the content: the description, and what is there only while a folder is sealed.
NOT_CONTENT = (ARTEFACT_FILE, MARKER_FILE, f".{ARTEFACT_FILE}.partial")
NEVER = 0  # As the time of a file: its checksum is compared when it is verified next.


class ArtefactError(ValueError):
    """An artefact is missing, broken, or made by something that does not fit the stage that wants to read it."""


class DamagedArtefactError(ArtefactError):
    """A file of an artefact is missing or changed: the stage must be run again."""


class ForeignFileError(ArtefactError):
    """In the directory of an artefact lies a file that the stage has not written."""


@dataclasses.dataclass(frozen=True)
class Artefact(Generic[F]):
    """A finished directory, and what stands in its `artefact.json`.

    Attributes:
        place: the directory of its files, on this machine or on a store.
        made_by: what determined it.
        fingerprint: of its content, 16 hex digits.
        facts: what the stage tells the stages after it.
        files: path of each file, relative to the directory -> its state.
    """

    place: Place
    made_by: MadeBy
    fingerprint: str
    facts: F
    files: Mapping[str, FileState]

    @property
    def path(self) -> Path:
        """The directory, of an artefact on this machine."""
        assert isinstance(self.place, Path), f"{self.place} needs a copy on this machine"
        return self.place


#: What was read since each `damage.damage_named` that is entered: place -> artefact.
read_since: list[dict[Path, Artefact[Any]]] = []
_read_up_to = contextvars.ContextVar[float]("read_up_to", default=checksums.SMALL)


@dataclasses.dataclass
class Draft:
    """A directory that a stage is filling.

    Attributes:
        path: the folder to fill.
        facts: what the stage tells the stages after it. It must be set before the folder is sealed.
        known: states of files that need not be read again, as far as they have these sizes.
    """

    path: Path
    facts: Facts | None = None
    known: Mapping[str, FileState] = dataclasses.field(default_factory=dict)


def fingerprint_of_file(file: Path) -> str:
    """16 hex digits over the bytes of a file."""
    return checksums.checksum(file)[:16]


def fingerprint_of_start(place: Place) -> str:
    """16 hex digits over what a run starts from: a file, or the directory of a finished stage."""
    if isinstance(place, Path) and place.is_file():
        return fingerprint_of_file(place)
    try:
        content = _read_description(place / ARTEFACT_FILE)
        return fingerprint_of([content["key"], content["fingerprint"]])
    except (JsonError, KeyError, TypeError) as error:
        raise ArtefactError(f"{place / ARTEFACT_FILE} is not an artefact description: {error!r}") from error


def fingerprint_of_tree(directory: Path) -> str:
    """16 hex digits over the names and bytes of all files below `directory`, logs and checkpoints left out."""
    return checksums.fingerprint_of_states(checksums.states_below(directory, NOT_CONTENT))


@contextlib.contextmanager
def write_aside(target: Path, made_by: MadeBy, *, keep_partial: bool = False, writes: bool = True) -> Iterator[Draft]:
    """Yields a draft to fill. On success seals it and renames its folder to `target`.

    With `keep_partial`, an interrupted run with the same `made_by` goes on, as in `sealed`. After an exception `target`
    is untouched. A process that does not write gets a temporary folder, and nothing is kept of it: it trains together
    with one that writes.

    Raises:
        FactsError: the stage has set no facts, or facts that are not its own.
    """
    if not writes:
        with tempfile.TemporaryDirectory() as folder:
            yield Draft(Path(folder))
        return
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
    content = description_of(made_by, draft.facts, checksums.states_below(partial, NOT_CONTENT, draft.known))
    write_file(partial / ARTEFACT_FILE, json.dumps(content, indent=2, default=str))
    marker.unlink()  # Last: who is killed before it goes on with what is there.


def description_of(made_by: MadeBy, facts: Facts | None, files: Mapping[str, FileState]) -> dict[str, Any]:
    """What stands in the description of an artefact.

    Raises:
        FactsError: there are no facts, or they are not those of the stage.
    """
    content = {
        "made_by": dataclasses.asdict(made_by),
        "key": made_by.key,
        "fingerprint": checksums.fingerprint_of_states(files),
        "facts": _checked(made_by.stage, facts),
        "files": files,
    }
    as_read = json.loads(json.dumps(content, default=str))
    return content | {CHECKSUM: checksum_of_description(as_read)}


def checksum_of_description(content: Mapping[str, Any]) -> str:
    """16 hex digits over a description, which stay where times and places of its files change."""
    parts: dict[str, Any] = {name: content[name] for name in ("made_by", "key", "fingerprint", "facts")}
    return fingerprint_of([parts, {name: [state[0], state[2]] for name, state in content["files"].items()}])


def _checked(stage: str, facts: Facts | None) -> dict[str, Any]:
    wanted = BY_NAME[stage].facts
    if not isinstance(facts, wanted):
        raise FactsError(f"the stage '{stage}' must set {wanted.__name__}, but has set {facts!r}")
    return facts.to_json()


def partial_of(target: Path) -> Path:
    """The folder in which an artefact is filled."""
    return target.with_name(f".{target.name}.partial")


def read(directory: Place, stage: Stage[F]) -> Artefact[F]:
    """Reads the artefact in `directory`, and compares its files with what is remembered of them, as `verify`.

    Raises:
        ArtefactError: there is none, it is unreadable, or another stage made it.
        DamagedArtefactError, ForeignFileError: as `verify`.
    """
    file = directory / ARTEFACT_FILE
    again = f"Run 'courier {command_of(stage)}' again."
    if not transfer.exists(file):
        raise ArtefactError(
            f"{directory} holds no finished result of the stage '{stage}'. Run 'courier {command_of(stage)}' first."
        )
    try:
        content = _read_description(file)
        made_by, facts = fields_of(MadeBy, content["made_by"], "made_by"), content["facts"]
        fingerprint = content["fingerprint"]
        require_kind(f"fingerprint={fingerprint!r}", fingerprint, str)
        files = {name: FileState.from_json(state) for name, state in content["files"].items()}
        whole = content.get(CHECKSUM) in (None, checksum_of_description(content))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # No text, no JSON, or something else.
        raise ArtefactError(f"{file} is not an artefact description: {error!r}. {again}") from error
    if made_by.stage != stage:
        raise ArtefactError(f"{directory} was made by the stage '{made_by.stage}', but '{stage}' is needed here.")
    try:
        # A plain copy on a store, such as a snapshot, names no folder.
        place = directory if isinstance(directory, Path) else directory / str(content.get(FOLDER, ""))
        artefact = Artefact(place, made_by, fingerprint, stage.facts.from_json(facts), files)
    except FactsError as error:
        raise ArtefactError(f"{file}: {error}. {again}") from error
    if not whole:
        raise DamagedArtefactError(f"{directory} is damaged: the content of the file {file.name} has changed. {again}")
    return verify(artefact)


def _read_description(file: Place) -> Any:
    return read_json(file) if isinstance(file, Path) else parse_json(transfer.read_bytes(file).decode())


def verify(artefact: Artefact[F], full: bool = False) -> Artefact[F]:
    """Refuses an artefact whose files are not those that the stage wrote.

    Names, sizes and times are compared first, and checksums where a time differs, or where the format of a small file
    has none (`checksums.verified`). If all checksums are right after all, the new times are remembered: a copy of a
    workdir is read through once, not at each command. A file that is found damaged is remembered, too: the stage is
    then made again, although size and time of the file are right.

    Args:
        artefact: to be used.
        full: compare all checksums, whatever the times are. An export does so.

    Returns:
        The artefact with the times of its files now.

    Raises:
        DamagedArtefactError: a file is missing or changed; the message names it.
        ForeignFileError: there is a file that the stage did not write; the message names it.
    """
    if not isinstance(artefact.place, Path):
        _require_stored(artefact.place, artefact)
        return artefact
    try:
        files = checksums.verified(artefact.path, artefact.files, NOT_CONTENT, full, _read_up_to.get())
    except checksums.DamagedError as error:
        if error.unnoticed:
            state = artefact.files[error.unnoticed]._replace(mtime_ns=NEVER)
            _remember(artefact.path / ARTEFACT_FILE, {**artefact.files, error.unnoticed: state})
        raise DamagedArtefactError(f"{artefact.path} is damaged: {error}. {artefact.made_by.remedy}") from error
    except checksums.ForeignFileError as error:
        raise ForeignFileError(f"{artefact.path} is not as it was written: {error}.") from error
    if files != artefact.files:
        _remember(artefact.path / ARTEFACT_FILE, files)
    artefact = dataclasses.replace(artefact, files=files)
    for noted in read_since:
        noted[artefact.path] = artefact
    return artefact


@contextlib.contextmanager
def reading_large_files() -> Iterator[None]:
    """Has `verify` compare the checksums of large files, too, as long as it is entered: a stage is made from them."""
    before = _read_up_to.set(math.inf)
    try:
        yield
    finally:
        _read_up_to.reset(before)


def _require_stored(place: StorePlace, artefact: Artefact[F]) -> None:
    """Refuses an artefact on a store that lacks a file, or has one of another size. Checksums are those of a copy."""
    sizes = {entry.name: entry.size for entry in transfer.files_below(place)}
    for name, known in artefact.files.items():
        if name not in sizes:
            raise DamagedArtefactError(f"{place} is damaged: {printable(name)} is missing. {artefact.made_by.remedy}")
        if sizes[name] != known.size:
            told = f"{printable(name)} has {sizes[name]} bytes, not {known.size}"
            raise DamagedArtefactError(f"{place} is damaged: {told}. {artefact.made_by.remedy}")


def _remember(file: Path, files: Mapping[str, FileState]) -> None:
    """Writes new times of files. Where that is impossible, the next command compares the checksums again."""
    content = read_json(file) | {"files": files}
    aside = file.with_name(f".{file.name}.{os.getpid()}.partial")
    with contextlib.suppress(OSError):
        try:
            aside.write_text(json.dumps(content, indent=2))
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)


def comes_from_notebook(directory: Place) -> bool:
    """Whether a notebook saved the artefact in a directory, damaged or not, instead of a stage."""
    try:
        content = _read_description(directory / ARTEFACT_FILE)
        return bool(FROM_NOTEBOOK.items() <= content["made_by"]["settings"].items())
    except (OSError, MissingFileError, ValueError, KeyError, TypeError, AttributeError):  # None, or no description.
        return False


def why_stale(directory: Place, made_by: MadeBy) -> str | None:
    """Why the artefact in a directory cannot be used as one that `made_by` determines; None if it can.

    Raises:
        ForeignFileError: there is a file that the stage did not write. Nothing is replaced for that.
    """
    if not transfer.exists(directory / ARTEFACT_FILE if isinstance(directory, StorePlace) else directory):
        return "there is no result yet"
    try:
        before = read(directory, BY_NAME[made_by.stage]).made_by
    except ForeignFileError:
        raise
    except ArtefactError as error:
        return str(error)
    if before.key == made_by.key:
        return None
    changes = made_by.changes(before)
    more = [f"and {len(changes) - MOST_CHANGES} more"] if len(changes) > MOST_CHANGES else []
    return ", ".join(changes[:MOST_CHANGES] + more)


def is_current(directory: Place, made_by: MadeBy) -> bool:
    """Whether `directory` holds a finished artefact that `made_by` determines."""
    return why_stale(directory, made_by) is None
