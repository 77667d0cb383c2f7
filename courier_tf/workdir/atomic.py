"""Files and folders that appear whole or not at all: one process writes them aside, then renames them."""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from courier_tf.files import transfer
from courier_tf.files.lock import only_writer
from courier_tf.files.places import Place, StorePlace

LOG = logging.getLogger(__name__)
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # Errors of flock on a file system without locks.


@contextlib.contextmanager
def exclusive(lock: Place, waiting: str) -> Iterator[None]:
    """Lets one process at a time go on; another one logs why it waits. A killed process holds no lock.

    Args:
        lock: file to lock. It stays. On a store a folder, and the second process is refused.
        waiting: message to log while another process holds the lock.

    Raises:
        LockedError: another process holds the lock of a place on a store.
    """
    if isinstance(lock, StorePlace):
        with only_writer(lock, lock.with_name(lock.name.removeprefix(".").removesuffix(".lock"))):
            yield
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    # Opened for reading too, as opening a named pipe for writing alone would wait for a reader; a link is not followed.
    with open(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOG.info(waiting)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            LOG.warning("%s is on a file system without locks: run one command at a time there", lock.parent)
        yield


def replace_directory(new: Path, target: Path) -> None:
    """Renames `new` to `target`. A reader sees the old content or the new content, never a mixture."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def rename_together(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Renames finished folders to targets that do not exist yet. After an error no folder is renamed.

    All bytes are on the disk before the first rename, so a full disk is noticed in time. Some folders stay renamed,
    each of them whole, if a rename cannot be taken back or the process is killed between two renames.

    Args:
        pairs: (finished folder, target) for each.
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


def write_file(path: Place, text: str) -> None:
    """Writes a small text file aside, then renames it; on a store as a whole."""
    if isinstance(path, StorePlace):
        transfer.write_bytes(path, text.encode())
        return
    aside = path.with_name(f".{path.name}.partial")
    aside.unlink(missing_ok=True)  # It may be a link to elsewhere, or a named pipe.
    with aside.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    aside.replace(path)
