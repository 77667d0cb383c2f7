"""Tells clients and logs that they are in a process which a fork has made.

There, connections and files are the parent's, threads are gone, and locks may be held by nobody.
"""

import os
import weakref
from typing import Protocol


class AfterFork(Protocol):
    """What begins anew after a fork."""

    def after_fork(self) -> None:
        """Is called in the new process, before anything else in it."""


_TOLD: "weakref.WeakSet[AfterFork]" = weakref.WeakSet()


def tell(holder: AfterFork) -> None:
    """Has an object be told of each fork, for as long as somebody holds it."""
    _TOLD.add(holder)


def _tell_all() -> None:
    for holder in list(_TOLD):
        holder.after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no fork.
    os.register_at_fork(after_in_child=_tell_all)
