"""One writer at a time on a store, which has no locks of its own.

Each writer puts a ticket into a folder, then lists the folder. Stores list what was written before; so of two writers
at least one sees the ticket of the other, and gives way.
"""

import contextlib
import datetime
import json
import os
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import psutil

from courier_tf.escaping import printable
from courier_tf.files import transfer
from courier_tf.files.places import MissingFileError, StoreError, StorePlace


class LockedError(StoreError):
    """Another process writes there, or one that was killed has left its ticket."""


@contextlib.contextmanager
def only_writer(folder: StorePlace, what: StorePlace) -> Iterator[None]:
    """Holds the lock of a place on a store. Tickets of processes of this machine that are gone are removed.

    Args:
        folder: of the tickets.
        what: the place that is written, for messages.

    Raises:
        LockedError: another writer holds the lock; names it and the way out.
    """
    name = f"{uuid.uuid4().hex}.json"
    ticket = folder / name
    transfer.write_bytes(ticket, json.dumps(_of_this_process()).encode())
    try:
        for entry in transfer.files_below(folder):
            if entry.name == name:
                continue
            holder = _read(folder / entry.name)
            if holder is None or _is_gone(holder):
                transfer.remove(folder / entry.name)
                continue
            raise LockedError(
                f"{what} is being written by process {printable(holder.get('process'))} of "
                f"{printable(holder.get('owner'))} on {printable(holder.get('host'))} since "
                f"{printable(holder.get('since'))}: wait for it. If it is gone, remove {folder / entry.name}"
            )
        yield
    finally:
        transfer.remove(ticket)


def _of_this_process() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "owner": process.username(),
        "process": process.pid,
        "started": process.create_time(),
        "since": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _read(ticket: StorePlace) -> dict[str, Any] | None:
    """What a ticket says; None where it has been given back meanwhile."""
    try:
        content = json.loads(transfer.read_bytes(ticket))
    except MissingFileError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether a ticket is that of a process of this machine that has ended."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("process"), int):
        return False
    if holder["process"] == os.getpid():
        return holder.get("started") != psutil.Process().create_time()
    try:
        return bool(psutil.Process(holder["process"]).create_time() != holder.get("started"))
    except psutil.NoSuchProcess:
        return True
