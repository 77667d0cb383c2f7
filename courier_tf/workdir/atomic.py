"""Files and folders that appear whole, or not at all: written aside, then renamed, by one process at a time."""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # What flock says where there are none.


@contextlib.contextmanager
def exclusive(lock: Path, waiting: str) -> Iterator[None]:
    """One process at a time; another says why it waits, and does. A killed process holds nothing.

    Args:
        lock: file that is locked; it stays.
        waiting: what to print where another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(waiting, flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            print(f"{lock.parent} is on a file system without locks: run one command at a time there", flush=True)
        yield


def replace_directory(new: Path, target: Path) -> None:
    """Renames `new` to `target`; a reader sees the old content or the new, never a mixture."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def rename_together(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Renames finished folders to targets that are not there yet: all of them, or after an error none.

    All bytes are on the disk before the first rename, so that a disk that is full is noticed in time. Only where not
    even a rename can be taken back, or the process is killed between two of them, does a part of them stay, each whole.
    """
    for new, _ in pairs:
        for path in (new, *new.rglob("*")):
            _flush(path)
    try:
        for new, target in pairs:
            new.rename(target)
        for folder in {target.parent for _, target in pairs}:
            _flush(folder)
    except BaseException as error:
        for new, target in reversed(pairs):
            if not new.exists():
                try:
                    target.rename(new)
                except OSError as stuck:
                    error.add_note(f"{target} stays: {stuck}")
        raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, text: str) -> None:
    """Writes a small text file aside and renames it."""
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)
