"""Whether the files of a folder are those that were written.

Sizes and times are compared first, checksums where times differ. A faulty disk, and a copy by `rsync -t`, change bytes
and keep size and time. So the checksums of files whose format has none are compared in any case, while they are small.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from courier_tf.escaping import printable

NOT_KEPT = ("logs", "checkpoints")  # Nobody reads these folders of a finished stage.
#: How names of files begin that file managers and network file systems leave anywhere, or a process that was killed
#: while it wrote new times into a description.
STRAY = (".DS_Store", "Thumbs.db", ".nfs", ".artefact.json.")
#: Endings of files whose format has checksums, which are compared by whoever reads such a file.
WITH_CHECKSUMS = (".tfrecord",)
SMALL = 64 * 2**20  # Bytes of a file that is read through at each command: 0.1 s.
SETTLED_NS = 2 * 10**9  # A file that was changed within this time may change again without a new time of its status.

_known: dict[tuple[int, int, int, int, int], str] = {}  # What a file was when this process read it -> its checksum.


class DamagedError(ValueError):
    """A file is missing or changed.

    Attributes:
        unnoticed: path of a file whose content alone has changed, so that nobody finds it by size and time.
    """

    unnoticed: str | None = None


class ForeignFileError(ValueError):
    """There is a file that was not written with the others."""


class FileState(NamedTuple):
    """What is remembered of a file.

    Attributes:
        size: in bytes.
        mtime_ns: time of the last change, nanoseconds since 1970.
        sha256: checksum of the content, 64 hex digits.
    """

    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, file: Path) -> Self:
        """Reads the whole file.

        Raises:
            DamagedError: it is no regular file, such as a named pipe, which nobody may ever write to.
        """
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DamagedError(f"{printable(file.name)} is no regular file")
        return cls(status.st_size, status.st_mtime_ns, checksum(file))

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Reads what `json` has made of a state.

        Raises:
            ValueError: it is something else.
        """
        match values:
            case [int(size), int(mtime_ns), str(sha256)]:
                return cls(size, mtime_ns, sha256)
        raise ValueError(f"{values!r} is not the state of a file")


def checksum(file: Path) -> str:
    """The sha256 of the bytes of a file, 64 hex digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checksum_once(file: Path, status: os.stat_result) -> str:
    """As `checksum`; this process does not read a file twice that has been left alone."""
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if key not in _known:
        digest = checksum(file)
        if abs(time.time_ns() - status.st_ctime_ns) < SETTLED_NS:
            return digest
        _known[key] = digest
    return _known[key]


def files_below(directory: Path, ignored: tuple[str, ...] = ()) -> list[str]:
    """The paths of all files below a folder, relative to it, sorted.

    Left out are logs and checkpoints, stray files of other programs, and the names in `ignored`.
    """

    def walk(folder: str, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:  # A link that leads back: it holds nothing of its own.
            yield prefix.removesuffix("/")
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in NOT_KEPT or entry.name in ignored or entry.name.startswith(STRAY):
                    continue
                if entry.is_dir():
                    yield from walk(entry.path, f"{prefix}{entry.name}/", above | {here})
                else:
                    yield prefix + entry.name

    return sorted(walk(str(directory), "", frozenset()), key=lambda name: name.split("/"))


def states_below(
    directory: Path, ignored: tuple[str, ...] = (), known: Mapping[str, FileState] | None = None
) -> dict[str, FileState]:
    """The state of each of `files_below`. A file that is known is not read, if it has the size that is known."""
    states = {}
    for name in files_below(directory, ignored):
        file = directory / name
        status, state = file.stat(), (known or {}).get(name)
        if state is not None and stat.S_ISREG(status.st_mode) and status.st_size == state.size:
            states[name] = state._replace(mtime_ns=status.st_mtime_ns)
        else:
            states[name] = FileState.of(file)
    return states


def fingerprint_of_states(states: Mapping[str, FileState]) -> str:
    """16 hex digits over names and contents, whatever the times are."""
    digest = hashlib.sha256()
    for name in sorted(states, key=lambda name: name.split("/")):
        digest.update(name.encode())
        digest.update(bytes.fromhex(states[name].sha256))
    return digest.hexdigest()[:16]


def verified(
    directory: Path,
    states: Mapping[str, FileState],
    ignored: tuple[str, ...] = (),
    full: bool = False,
    read_up_to: float = SMALL,
) -> dict[str, FileState]:
    """Compares the files below a folder with what is remembered of them.

    Args:
        directory: the folder.
        states: what is remembered, by the path of the file.
        ignored: as in `files_below`.
        full: compare all checksums. Otherwise those of files with another time, and of files whose format has none.
        read_up_to: bytes; without `full`, larger files with the same time are not read.

    Returns:
        The states with the times that the files have now: a copy of a folder has new ones.

    Raises:
        DamagedError: a file is missing or changed; the message names it.
        ForeignFileError: there is one more file; the message names it.
    """
    present = files_below(directory, ignored)
    for name in sorted(set(states) - set(present)):
        raise DamagedError(f"the file {printable(name)} is missing")
    now = {}
    for name, known in states.items():
        file = directory / name
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise DamagedError(f"{printable(name)} is no regular file")
        if status.st_size != known.size:
            raise DamagedError(f"the file {name} has {status.st_size} bytes, not {known.size}")
        same_time = status.st_mtime_ns == known.mtime_ns
        if full or not same_time:
            content = checksum(file)
        elif status.st_size <= read_up_to and not name.endswith(WITH_CHECKSUMS):
            content = _checksum_once(file, status)
        else:
            content = known.sha256
        if content != known.sha256:
            error = DamagedError(f"the content of the file {name} has changed")
            error.unnoticed = name if same_time else None
            raise error
        now[name] = known._replace(mtime_ns=status.st_mtime_ns)
    for name in sorted(set(present) - set(states)):
        raise ForeignFileError(f"the file {printable(name)} does not belong there: remove it")
    return now
