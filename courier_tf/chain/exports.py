"""What an export and a promotion write, for a workdir on a store: models, bundle and snapshots, and who may."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from courier_tf import schema
from courier_tf.exporting.promotion import PREVIOUS_SNAPSHOT
from courier_tf.files.places import StorePlace
from courier_tf.workdir import stored
from courier_tf.workdir.atomic import exclusive

_NAMES = (
    schema.MODELS_FOLDER,
    schema.SCANN_MODELS_FOLDER,
    schema.PROMOTED_FOLDER,
    PREVIOUS_SNAPSHOT,
    schema.BUNDLE_FOLDER,
)


@contextlib.contextmanager
def exports_here(workdir: Path, place: StorePlace | None) -> Iterator[None]:
    """Brings what was exported and promoted to this machine, and what changes there back to the store.

    Args:
        workdir: the workdir, or the folder of copies of one on a store.
        place: the workdir on the store; without one nothing is copied.

    Raises:
        LockedError: another process exports or promotes there.
    """
    if place is None:
        yield
        return
    with exclusive(place / ".export.lock", ""), stored.changed_here(place, workdir, _NAMES):
        yield
