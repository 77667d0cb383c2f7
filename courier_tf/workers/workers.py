"""The workers of a training, under TensorFlow's MultiWorkerMirroredStrategy."""

import contextlib
import dataclasses
import functools
import json
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from courier_tf.training import TrainingError, mirrored_strategy
from courier_tf.workers.places import Places

LOG = logging.getLogger(__name__)


class ChiefError(TrainingError):
    """The chief could not do what the other workers wait for."""


#: What TensorFlow raises where another worker has gone.
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)


@dataclasses.dataclass(frozen=True)
class Workers:
    """This process and those that train with it. All of them run the same command, and the chief alone writes.

    Every method but the properties must be called by all workers in the same order, as each waits for the others.

    Attributes:
        places: addresses of all, and which of them this one is.
        timeout_seconds: how long to wait for the others at the start.
    """

    places: Places = Places()
    timeout_seconds: float = 600.0

    @property
    def is_chief(self) -> bool:
        """Whether this process decides and writes. One that trains alone does."""
        return self.places.index == 0

    @property
    def together(self) -> bool:
        """Whether there are others."""
        return self.places.number > 1

    def join(self) -> None:
        """Waits until all workers are there. It must come before any other use of TensorFlow.

        Raises:
            TrainingError: a worker has not come in time.
        """
        if self.together:
            _ = self._joined

    @functools.cached_property
    def _joined(self) -> tf.distribute.MultiWorkerMirroredStrategy:
        places = self.places
        LOG.info("%s of %d waits for the others", places.name(places.index), places.number)
        resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec({"worker": list(places.addresses)}),
            task_type="worker",
            task_id=places.index,
            num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
            rpc_layer="grpc",
        )
        _meet(places, self.timeout_seconds)
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        _keep_empty_variables(strategy)
        # TensorFlow's service of the workers takes SIGTERM for itself.
        with contextlib.suppress(ValueError):  # Only the main thread may.
            signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))
        LOG.info("%d workers train together, on %d devices", places.number, strategy.num_replicas_in_sync)
        return strategy

    def strategy(self, replicas: int = 0, setting: str = "replicas") -> tf.distribute.Strategy:
        """The strategy over the devices of all workers; alone, that of `mirrored_strategy`.

        Args:
            replicas: devices to use of this machine; 0 means all.
            setting: name of the setting that holds `replicas`, for messages.

        Raises:
            TrainingError: there are not so many devices, or several workers are to leave some out.
        """
        if not self.together:
            return mirrored_strategy(replicas, setting)
        devices = self._joined.num_replicas_in_sync // self.places.number
        if replicas not in (0, devices):
            raise TrainingError(
                f"{setting}={replicas}, but each of several workers uses all of its {devices} devices: leave the "
                "setting out, and hide GPUs by CUDA_VISIBLE_DEVICES"
            )
        return self._joined

    def exchanged(self, value: Any) -> list[Any]:
        """The values that all workers bring, in their order. They must fit into JSON."""
        if not self.together:
            return [value]
        text = np.frombuffer(json.dumps(value).encode(), np.uint8).astype(np.int32)
        sizes = self._gather(tf.constant([len(text)])).numpy()
        texts = np.split(self._gather(tf.constant(text)).numpy(), np.cumsum(sizes)[:-1])
        devices = self._joined.num_replicas_in_sync // self.places.number
        return [json.loads(bytes(text.astype(np.uint8))) for text in texts[::devices]]

    @functools.cached_property
    def _gather(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """[n] int32 of each worker to [sum of n], in the order of the devices. A graph that is traced once."""
        strategy = self._joined

        def of_replica(part: tf.Tensor) -> tf.Tensor:
            return tf.distribute.get_replica_context().all_gather(tf.identity(part), axis=0)

        def gather(part: tf.Tensor) -> tf.Tensor:
            return strategy.experimental_local_results(strategy.run(of_replica, [part]))[0]

        return tf.function(gather, [tf.TensorSpec([None], tf.int32)], autograph=False)

    def wait(self) -> None:
        """Waits until all workers are here."""
        self.exchanged(None)

    def chief_says(self, function: Callable[[], Any]) -> Any:
        """What a function gives on the chief, told to all. It must fit into JSON. The others do not call it.

        Raises:
            ChiefError: on the others, where the function has raised an error on the chief.
        """
        if not self.together:
            return function()
        if not self.is_chief:
            said = self.exchanged(None)[0]
            if "error" in said:
                raise ChiefError(f"the chief has ended: {said['error']}")
            return said["value"]
        try:
            value = function()
        except Exception as error:
            self.exchanged({"error": str(error)})
            raise
        self.exchanged({"value": value})
        return value

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Refuses a worker that has other settings, data or code than the chief.

        Args:
            facts: name -> what must be the same, as it fits into JSON.

        Raises:
            TrainingError: on all workers; names the worker, and what differs.
        """
        chief, *others = self.exchanged(dict(facts))
        for index, other in enumerate(others, start=1):
            names = sorted(name for name in {*chief, *other} if chief.get(name) != other.get(name))
            if names:
                told = ", ".join(f"{name}={other.get(name)!r} in place of {chief.get(name)!r}" for name in names[:3])
                more = f" and {len(names) - 3} more" if len(names) > 3 else ""
                raise TrainingError(
                    f"{self.places.name(index)} does not fit {self.places.name(0)}: {told}{more}. Start all workers "
                    "with the same version, settings and data"
                )

    def share(self, variables: Iterable[tf.Variable]) -> None:
        """Gives all workers the chief's values of variables. Metrics and integers of the catalogue are left out."""
        if not self.together:
            return
        shared = [
            variable
            for variable in variables
            if variable.aggregation != tf.VariableAggregation.SUM  # As a metric. Statistics of batches are means.
            and (variable.dtype.is_floating or variable.dtype == tf.int64)
            and variable.shape.num_elements() > 0
        ]

        def of_replica() -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            is_first = tf.equal(context.replica_id_in_sync_group, 0)
            mine = [tf.where(is_first, value, tf.zeros_like(value)) for value in map(tf.identity, shared)]
            return [context.all_reduce("sum", value) for value in mine]

        strategy = self._joined
        sums = tf.function(lambda: strategy.run(of_replica), autograph=False)()
        for variable, value in zip(shared, sums, strict=True):
            variable.assign(strategy.experimental_local_results(value)[0])


def _keep_empty_variables(strategy: tf.distribute.MultiWorkerMirroredStrategy) -> None:
    """Leaves variables without elements out of the broadcast of first values: TensorFlow 2.16 crashes there.

    A catalogue without numbers has one, for instance.
    """
    extended = strategy.extended
    broadcast = extended._get_variable_creator_initial_value

    def first_value(*arguments: Any, **named: Any) -> Callable[[], Any]:
        value = named["initial_value"]
        if isinstance(value, np.ndarray) and value.size == 0:
            return lambda: value
        made: Callable[[], Any] = broadcast(*arguments, **named)
        return made

    extended._get_variable_creator_initial_value = first_value


ALONE = Workers()


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another worker has gone."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, LOST):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _meet(places: Places, seconds: float) -> None:
    """Waits until every worker can be reached. TensorFlow waits for an hour, holds Python, and tells nobody for whom.

    Raises:
        TrainingError: names those that have not come in time, or the port that is in use.
    """
    deadline, missing = time.monotonic() + seconds, set(range(places.number)) - {places.index}
    port = int(places.addresses[places.index].rpartition(":")[2])
    try:
        server = socket.create_server(("", port), backlog=places.number)
    except OSError as error:
        raise TrainingError(f"{places.name(places.index)} cannot listen on its port: {error.strerror}") from error
    with server:
        while missing := {index for index in missing if not _listens(places.addresses[index])}:
            if time.monotonic() > deadline:
                raise TrainingError(
                    f"{', '.join(map(places.name, sorted(missing)))} has not come within {seconds:.0f} s: start it, or "
                    "allow more --worker-timeout-seconds"
                )
            time.sleep(0.5)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()
    except OSError:
        return False
    return True
