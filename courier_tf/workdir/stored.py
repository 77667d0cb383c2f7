"""Stages on a store, which cannot rename a folder.

The files of a stage lie in a folder of their own below it, `attempt-...`, and `artefact.json`, which is written last,
names that folder. Readers follow it, so nothing half-written is ever picked up. The next writer removes what killed
attempts have left.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from courier_tf.escaping import printable
from courier_tf.files import transfer
from courier_tf.files.places import MissingFileError, Place, StoreError, StorePlace
from courier_tf.typed_json import parse_json
from courier_tf.workdir import artefacts, checksums
from courier_tf.workdir.artefacts import ARTEFACT_FILE, FOLDER, Artefact
from courier_tf.workdir.atomic import exclusive, replace_directory, write_file
from courier_tf.workdir.checksums import FileState
from courier_tf.workdir.facts import Facts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import BY_NAME, F

LOG = logging.getLogger(__name__)
_ATTEMPT = "attempt-"
_LAST = ("saved_model.pb", ARTEFACT_FILE)  # Files that say of a folder that it is whole.
_NOTES = ".written"  # Folder of what workers note of each file, while a stage is filled.


@dataclasses.dataclass
class PlacedDraft:
    """A folder that a job fills from any machine.

    Attributes:
        place: the folder to fill.
        facts: what the stage tells the stages after it. It must be set in the end.
    """

    place: Place
    facts: Facts | None = None


@contextlib.contextmanager
def write_stage(target: Place, made_by: MadeBy) -> Iterator[PlacedDraft]:
    """Yields a draft for a job to fill, here or on a store. Without an error it becomes the stage in `target`.

    Raises:
        FactsError: the job has set no facts, or facts that are not its own.
    """
    if isinstance(target, Path):
        with artefacts.write_aside(target, made_by) as local:
            draft = PlacedDraft(local.path)
            yield draft
            local.facts, local.known = draft.facts, _taken_notes(local.path)
        return
    attempt = _begin(target)
    draft = PlacedDraft(attempt)
    try:
        yield draft
        content = artefacts.description_of(made_by, draft.facts, _states(attempt, _taken_notes(attempt)))
        _finish(target, attempt, content)
    except BaseException:
        with contextlib.suppress(StoreError):
            transfer.remove(attempt)
        raise


def note(folder: Place, name: str, file: Path) -> None:
    """Notes size and checksum of a file where it is written, so that nobody has to read all files again for them.

    Args:
        folder: the draft that the file belongs to.
        name: its path in there.
        file: the file, while it is on this machine.
    """
    note_state(folder, name, FileState.of(file))


def note_state(folder: Place, name: str, state: FileState) -> None:
    """Notes size and checksum of a file that is taken over as it is; `folder` and `name` as for `note`."""
    noted = {"name": name, "size": state.size, "sha256": state.sha256}
    key = hashlib.sha256(name.encode()).hexdigest()[:16]
    transfer.write_bytes(folder / _NOTES / f"{key}.json", json.dumps(noted).encode())


def _taken_notes(folder: Place) -> dict[str, FileState]:
    """What workers have noted, by the path of the file. The notes are then removed."""
    known = {}
    for entry in transfer.files_below(folder / _NOTES):
        noted = json.loads(transfer.read_bytes(folder / _NOTES / entry.name))
        known[noted["name"]] = FileState(noted["size"], 0, noted["sha256"])
    transfer.remove(folder / _NOTES)
    return known


def _states(folder: StorePlace, known: dict[str, FileState]) -> dict[str, FileState]:
    """The state of each file of a folder. Those that are not known are read."""
    states = {}
    for entry in transfer.files_below(folder):
        state = known.get(entry.name)
        if state is None or state.size != entry.size:
            content = transfer.read_bytes(folder / entry.name)
            state = FileState(len(content), 0, hashlib.sha256(content).hexdigest())
        states[entry.name] = state
    return states


def publish(local: Path, target: StorePlace) -> None:
    """Copies a finished stage of this machine to a store. Logs and checkpoints stay here."""
    content = parse_json((local / ARTEFACT_FILE).read_text())
    attempt = _begin(target)
    for name in content["files"]:
        transfer.upload(local / name, attempt / name)
    _finish(target, attempt, content)


def _begin(target: StorePlace) -> StorePlace:
    _remove_leftovers(target)
    return target / f"{_ATTEMPT}{uuid.uuid4().hex[:12]}"


def _finish(target: StorePlace, attempt: StorePlace, content: dict[str, Any]) -> None:
    """From here on readers take the attempt. The files of the stage before are then removed."""
    written = json.dumps({**content, FOLDER: attempt.name}, indent=2, default=str)
    transfer.write_bytes(target / ARTEFACT_FILE, written.encode())
    _remove_leftovers(target)


def _remove_leftovers(target: StorePlace) -> None:
    try:
        valid = json.loads(transfer.read_bytes(target / ARTEFACT_FILE)).get(FOLDER)
    except (StoreError, ValueError, AttributeError):  # There is none yet, or nobody can read it.
        valid = None
    for name in transfer.names_in(target):
        if name.startswith(_ATTEMPT) and name != f"{valid}/":
            transfer.remove(target / name)


def local_copy(artefact: Artefact[F], target: Path) -> Path:
    """The files of a stage on this machine, each of them compared with its checksum.

    Args:
        artefact: a stage here or on a store.
        target: folder for the copy. A copy of the same content that is there is taken, once it is found whole.

    Returns:
        The folder of the stage, or the copy.

    Raises:
        DamagedArtefactError: a file on the store is missing, or is not what was written.
    """
    if isinstance(artefact.place, Path):
        return artefact.place
    with exclusive(target.with_name(f".{target.name}.copy.lock"), f"another process is copying {target}: waiting"):
        if not _holds(target, artefact):
            _copy(artefact, artefact.place, target)
    return target


def _copy(artefact: Artefact[F], place: StorePlace, target: Path) -> None:
    LOG.info("copying %s to %s", printable(place), printable(target))
    partial = target.with_name(f".{target.name}.copy")
    shutil.rmtree(partial, ignore_errors=True)
    states = {}
    for name, known in artefact.files.items():
        try:
            transfer.fetch(place / name, partial / name)
        except MissingFileError as error:
            raise artefacts.DamagedArtefactError(f"{error}. {artefact.made_by.remedy}") from error
        states[name] = FileState.of(partial / name)
        if states[name].sha256 != known.sha256:
            raise artefacts.DamagedArtefactError(f"{place / name} is not what was written. {artefact.made_by.remedy}")
    partial.mkdir(parents=True, exist_ok=True)
    content = {
        "made_by": dataclasses.asdict(artefact.made_by),
        "key": artefact.made_by.key,
        "fingerprint": artefact.fingerprint,
        "facts": artefact.facts.to_json(),
        "files": states,
    }
    content = json.loads(json.dumps(content, default=str))
    content[artefacts.CHECKSUM] = artefacts.checksum_of_description(content)
    write_file(partial / ARTEFACT_FILE, json.dumps(content, indent=2))
    replace_directory(partial, target)


def _holds(target: Path, artefact: Artefact[F]) -> bool:
    """Whether a folder of this machine holds the content of a stage, whole."""
    try:
        held = artefacts.read(target, BY_NAME[artefact.made_by.stage])
    except (OSError, ValueError):
        return False
    return (held.made_by.key, held.fingerprint) == (artefact.made_by.key, artefact.fingerprint)


@contextlib.contextmanager
def changed_here(place: StorePlace, local: Path, names: Sequence[str]) -> Iterator[None]:
    """Brings files and folders of a workdir to this machine, and what has changed there back to the store.

    Args:
        place: the workdir on the store.
        local: folder of its copies.
        names: of the files and folders. Here they are then as on the store.
    """
    _bring_here(place, local, names)
    before = _states_of(local, names)
    yield
    after = _states_of(local, names)
    # What names others comes after them: a server looks for the SavedModel, and for versions that a list names.
    for name in sorted(after, key=lambda name: (name.count("/") < 2, name.endswith(_LAST), name)):
        if before.get(name) != after[name]:
            transfer.upload(local / name, place / name)
    for name in before.keys() - after.keys():
        transfer.remove(place / name)
    for name in names:  # What is gone here: S3 goes on with an empty folder, which is no snapshot.
        if not (local / name).exists() and transfer.exists(place / name):
            transfer.remove(place / name)


def _bring_here(place: StorePlace, local: Path, names: Sequence[str]) -> None:
    for name in names:
        transfer.remove(local / name)
        if transfer.exists(place / name):
            transfer.fetch(place / name, local / name)


@contextlib.contextmanager
def here(place: Place, names: Sequence[str]) -> Iterator[Path]:
    """Yields a workdir of this machine: itself, or a copy of some files and folders of one on a store, then removed."""
    if isinstance(place, Path):
        yield place
        return
    with tempfile.TemporaryDirectory(prefix="courier-") as folder:
        _bring_here(place, Path(folder), names)
        yield Path(folder)


def _states_of(local: Path, names: Sequence[str]) -> dict[str, str]:
    """File -> checksum, of files and of what lies below folders.

    Locks and unfinished files, whose names begin with a dot, are left out.
    """
    files = [name for name in names if (local / name).is_file()]
    below = [
        f"{name}/{entry.name}"
        for name in names
        for entry in transfer.files_below(local / name)
        if not any(part.startswith(".") for part in entry.name.split("/"))
    ]
    return {name: checksums.checksum(local / name) for name in (*files, *below)}
