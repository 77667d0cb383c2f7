"""Which workers there are, and which of them this process is: from options, or from TF_CONFIG."""

import dataclasses
import re
from collections.abc import Sequence

from courier_tf.typed_json import JsonError, parse_json

ADDRESS = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+):([1-9]\d{0,4})")
JOBS = ("chief", "master", "worker")  # Jobs of TF_CONFIG that train, in the order in which they are counted.


class WorkersError(ValueError):
    """The workers are named in a way that makes no sense."""


@dataclasses.dataclass(frozen=True)
class Places:
    """Who trains together, and who of them this process is.

    Attributes:
        addresses: HOST:PORT of each worker, the chief first; none where this process trains alone.
        index: place of this process among them.
    """

    addresses: tuple[str, ...] = ()
    index: int = 0

    def __post_init__(self) -> None:
        for address in self.addresses:
            if not ADDRESS.fullmatch(address):
                raise WorkersError(f"workers: '{address}' is no HOST:PORT")
        if len(set(self.addresses)) < len(self.addresses):
            raise WorkersError(f"workers: an address stands twice in {','.join(self.addresses)}")
        if not 0 <= self.index < self.number:
            raise WorkersError(f"index must lie between 0 and {self.number - 1}, but is {self.index}")

    @property
    def number(self) -> int:
        """How many workers there are."""
        return max(len(self.addresses), 1)

    def name(self, index: int) -> str:
        """A worker in words."""
        return f"worker {index} ({self.addresses[index]})"


def places_of(workers: Sequence[str], index: int | None, tf_config: str | None) -> Places:
    """The places that a command line or TF_CONFIG name. The command line counts first.

    >>> places_of(["a:2222,b:2222"], 1, None)
    Places(addresses=('a:2222', 'b:2222'), index=1)

    Args:
        workers: values of `--workers`, each of one or several addresses with commas between them.
        index: value of `--index`.
        tf_config: value of the environment variable.

    Raises:
        WorkersError: they make no sense.
    """
    addresses = tuple(address for words in workers for address in words.split(",") if address)
    if not addresses and index is None:
        return _of_tf_config(tf_config) if tf_config else Places()
    if not addresses or index is None:
        raise WorkersError("--workers and --index belong together: give all addresses, and the place of this worker")
    return Places(addresses, index)


def _of_tf_config(text: str) -> Places:
    """The places of TF_CONFIG. A chief comes before the workers; evaluators do not train and are left out."""
    try:
        content = parse_json(text)
        cluster, task = content.get("cluster") or {}, content.get("task") or {}
        jobs = {job: [str(address) for address in cluster[job]] for job in JOBS if cluster.get(job)}
        kind, index = str(task.get("type", "worker")), int(task.get("index", 0))
    except (JsonError, AttributeError, TypeError, ValueError) as error:
        raise WorkersError(f"TF_CONFIG cannot be read: {error!r}. Correct it, or give --workers and --index") from error
    if not jobs:
        return Places()
    if cluster.get("ps"):
        raise WorkersError("TF_CONFIG names parameter servers (ps), which are not used here: name a chief and workers")
    if kind not in jobs or not 0 <= index < len(jobs[kind]):
        raise WorkersError(f"TF_CONFIG: the task {kind} {index} is none of those that train: {list(jobs)}")
    before = sum(len(jobs[job]) for job in list(jobs)[: list(jobs).index(kind)])
    addresses = tuple(address for job in jobs.values() for address in job)
    return Places(addresses, before + index) if len(addresses) > 1 else Places()
