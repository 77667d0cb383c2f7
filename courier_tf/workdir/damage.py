"""Errors that damaged files of a workdir cause: they name the file, and the command that makes it again."""

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from courier_tf.process import PACKAGES
from courier_tf.workdir import artefacts
from courier_tf.workdir.artefacts import Artefact, ArtefactError, DamagedArtefactError
from courier_tf.workdir.stages import BY_NAME

LOG = logging.getLogger(__name__)
#: Errors of the machine that no damaged file causes.
NO_DAMAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.EPIPE)


@contextlib.contextmanager
def damage_named() -> Iterator[None]:
    """Names the damaged file that an error comes from.

    After an error that a damaged file may cause, all results that were read since this was entered are verified in
    full. If they are right, the error goes on as it is.

    Raises:
        DamagedArtefactError: one of them is not what was written; the message names the file and the way out.
    """
    read_here: dict[Path, Artefact[Any]] = {}
    artefacts.read_since.append(read_here)
    try:
        yield
    except Exception as error:
        if _may_be_of_damage(error):
            _require_whole(error)
        raise
    finally:
        artefacts.read_since.pop()


def _may_be_of_damage(error: BaseException) -> bool:
    """Whether an error is, or comes from, one that nobody here has raised on purpose."""
    if isinstance(error, (DamagedArtefactError, BrokenPipeError)):
        return False
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(error, OSError) and error.errno in NO_DAMAGE for error in seen):
        return False
    return any(type(error).__module__.partition(".")[0] not in PACKAGES for error in seen)


def _require_whole(error: Exception) -> None:
    read_before = {path: artefact for noted in artefacts.read_since for path, artefact in noted.items()}
    if read_before:
        LOG.info("%s: comparing the files that were read with their checksums", type(error).__name__)
    for path, artefact in read_before.items():
        try:
            artefacts.verify(artefacts.read(path, BY_NAME[artefact.made_by.stage]), full=True)
        except DamagedArtefactError as damage:
            raise damage from error
        except (ArtefactError, OSError):  # Made anew or removed meanwhile, as by this very command.
            continue
