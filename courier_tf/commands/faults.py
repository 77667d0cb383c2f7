"""Failures that a user can mend, each in one line: what this project raises on purpose, and what a disk refuses."""

import dataclasses
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from courier_tf.escaping import LONGEST_PATH, printable
from courier_tf.process import PACKAGES

#: Words of an error without a number -> number. NumPy tells a full disk by how many items it has written.
WORDS = {
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
}
SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")

ADVICE = {
    errno.ENOSPC: "the disk is full: free some space, then the same command goes on",
    errno.EDQUOT: "your quota of the disk is used up: free some space, then the same command goes on",
    errno.EROFS: "the file system is read-only: choose another place",
    errno.EACCES: "permission denied: choose another place, or ask for permission",
    errno.EPERM: "the operation is not permitted here: choose another place, or ask for permission",
    errno.ENOTDIR: "a part of this path is a file where a folder is needed: choose another place",
    errno.EEXIST: "it is a file where a folder is needed: choose another place",
    errno.EISDIR: "it is a folder where a file is needed",
    errno.ENOENT: "it does not exist, or was removed meanwhile",
    errno.ENAMETOOLONG: "the path is too long: choose a shorter one",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
}
#: Those that no mistake in the program can cause, wherever the file lies.
OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE)


def explain(error: BaseException, command: object) -> str | None:
    """One line for a failure that a user can mend; None for any other, which deserves its traceback.

    Args:
        error: what a command raised.
        command: the command, whose paths are the user's folders; None before there is one, when all files are.
    """
    if type(error).__module__.partition(".")[0] in PACKAGES and isinstance(error, (ValueError, RuntimeError)):
        return str(error)
    folders = _folders(command)
    for cause in _causes(error):
        number, file = _number(cause), _file(cause)
        if number is None:
            continue
        theirs = file is not None and (command is None or any(_related(file, folder) for folder in folders))
        if number in OF_THE_MACHINE or theirs:
            place = file or (folders[0] if folders else None)
            advice = ADVICE.get(number) or (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
            return f"{printable(place, LONGEST_PATH)}: {advice}" if place else advice
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and those that led to it, the nearest first."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        error = error.__cause__ or error.__context__
    yield from seen


def _number(error: BaseException) -> int | None:
    """The number of what the operating system refused, also where a library tells it in words alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    text = str(error)
    for words, number in WORDS.items():
        if words in text:
            return number
    return errno.ENOSPC if isinstance(error, OSError) and SHORT_WRITE.search(text) else None


def _file(error: BaseException) -> Path | None:
    name = getattr(error, "filename2", None) or getattr(error, "filename", None)
    return Path(name.decode() if isinstance(name, bytes) else name) if isinstance(name, (str, bytes)) else None


def _folders(command: object) -> list[Path]:
    """The places that a command line names."""
    if not dataclasses.is_dataclass(command):
        return []
    values = [(field.name, getattr(command, field.name)) for field in dataclasses.fields(command)]
    return [Path(value) for name, value in values if isinstance(value, Path) or name in ("raw", "grid")]


def _related(file: Path, folder: Path) -> bool:
    file, folder = file.absolute(), folder.absolute()
    return file.is_relative_to(folder) or folder.is_relative_to(file)
