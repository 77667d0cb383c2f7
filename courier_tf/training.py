"""What both trainers share: replicas, mixed precision, and checkpoints that let an interrupted run go on."""

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.progress import Progress

LOG = logging.getLogger(__name__)

UNIFORMITY = "uniformity"  # Name of this measure in the logs of Keras.
COLLAPSED = -0.001  # Uniformity at which embeddings are, on average, within 0.02 of each other on the unit sphere.


class TrainingError(RuntimeError):
    """Training cannot go on, or not as it was asked for."""


class DivergenceError(TrainingError):
    """The loss, the weights or the predictions are no numbers any more."""


def mirrored_strategy(replicas: int = 0, setting: str = "replicas") -> tf.distribute.MirroredStrategy:
    """One replica per GPU, or one on the CPU where there is no GPU. Logs which devices these are.

    Args:
        replicas: number of GPUs to use; 0 means all.
        setting: name of the setting that holds `replicas`, for messages.

    Returns:
        A strategy. Calls with the same number of devices get the same one.

    Raises:
        TrainingError: `replicas` is higher than the number of GPUs.
    """
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    if replicas > max(len(gpus), 1):
        raise TrainingError(f"{setting}={replicas}, but this machine has {len(gpus)} GPUs")
    devices = tuple(gpus[: replicas or None] or ["CPU:0"])
    LOG.info("trains on %s", ", ".join(device.removeprefix("/device:") for device in devices))
    return _strategy_over(devices)


@functools.cache
def _strategy_over(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """The only strategy of this process over these devices.

    TensorFlow finds collectives by numbers in a table of the process. Each strategy begins at the same number, so a
    second strategy would meet the shapes of the first. A strategy over another number of devices is a group of its own,
    and gets its own range of numbers.
    """
    attributes = {"_collective_key_base": 100_000 * len(devices)}
    return type("Mirrored", (tf.distribute.MirroredStrategy,), attributes)(list(devices))


def rows_per_replica(global_rows: int, strategy: tf.distribute.Strategy, setting: str) -> int:
    """Number of rows of a global batch that each replica gets.

    Args:
        global_rows: rows of the global batch.
        strategy: strategy whose replicas share them.
        setting: name of the setting that holds `global_rows`, for messages.

    Raises:
        TrainingError: the rows cannot be shared out evenly.
    """
    share, rest = divmod(global_rows, strategy.num_replicas_in_sync)
    if rest or not share:
        raise TrainingError(
            f"{setting}={global_rows} is not a multiple of the {strategy.num_replicas_in_sync} replicas"
        )
    return share


@contextlib.contextmanager
def precision_policy(policy: str) -> Iterator[None]:
    """Sets the Keras mixed-precision policy for the layers that are built inside, then restores the previous one."""
    previous = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(previous)


class SlowPart(NamedTuple):
    """Variables that learn later and slower than others."""

    variables: Sequence[tf.Variable]
    factor: float  # Their learning rate, as a part of that of the others.
    first_step: int  # Number of steps after which they begin.


class _TwoSpeedAdam(keras.optimizers.legacy.Adam):
    """Adam, with a learning rate of its own for some variables. Their moments are kept from the first step on."""

    def __init__(self, learning_rate: Any, slow: SlowPart, **kwargs: Any) -> None:
        super().__init__(learning_rate, **kwargs)
        self._first_step, self._factor = slow.first_step, slow.factor
        # Each replica updates its own copy. Under mixed precision Keras wraps a variable, and the optimiser unwraps it.
        variables = (getattr(variable, "_variable", variable) for variable in slow.variables)
        self._slow = frozenset(
            copy._unique_id for variable in variables for copy in getattr(variable, "values", (variable,))
        )

    def _prepare_local(self, device: str, dtype: tf.DType, apply_state: dict[Any, dict[str, Any]]) -> None:
        super()._prepare_local(device, dtype, apply_state)
        coefficients = apply_state[(device, dtype)]
        part = tf.where(self.iterations < self._first_step, 0.0, self._factor)
        coefficients["slow_lr_t"] = coefficients["lr_t"] * tf.cast(part, dtype)

    def _resource_apply_dense(self, grad: tf.Tensor, var: tf.Variable, apply_state: Any = None) -> tf.Operation:
        if var._unique_id not in self._slow:
            return super()._resource_apply_dense(grad, var, apply_state)
        place = (var.device, var.dtype.base_dtype)
        coefficients = (apply_state or {}).get(place) or self._fallback_apply_state(*place)
        slowed = {**coefficients, "lr_t": coefficients["slow_lr_t"]}
        return super()._resource_apply_dense(grad, var, {place: slowed})


def compile_with_adam(model: keras.Model, learning_rate: Any, slow: SlowPart | None = None) -> None:
    """Compiles a built model with Adam, and creates Adam's moments at once, so that a checkpoint can restore them.

    Args:
        model: its variables exist.
        learning_rate: a number or a schedule.
        slow: variables with another learning rate, if any.
    """
    # The legacy optimiser updates each variable by one fused op, in a fifth of the time.
    adam = keras.optimizers.legacy.Adam(learning_rate) if slow is None else _TwoSpeedAdam(learning_rate, slow)
    model.compile(adam)
    model.optimizer._create_all_weights(model.trainable_variables)  # No public method creates them before a step.


def for_batches(function: Callable[[tf.Tensor], tf.Tensor], example: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of a batch as a graph that takes batches of any size.

    Args:
        function: [B, ...] -> a tensor.
        example: [M, ...] with the shape of an element and the type.
    """
    spec = tf.TensorSpec([None, *example.shape[1:]], example.dtype)
    return tf.function(function, autograph=False).get_concrete_function(spec)


class ProgressLines(keras.callbacks.Callback):
    """Logs how many steps are done, see `courier_tf.progress.Progress`, and the loss at the end of each epoch.

    The gauges, which are the other logs of an epoch, are for those who ask for details (level debug).

    Args:
        name: of the training.
        total: steps of all of it.
        done: steps before this call of `fit`.
    """

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        super().__init__()
        self.name, self.total = name, total
        self.progress = Progress(name, total, "steps", done)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.progress.advance()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        shown = {name: f"{value:.4g}" for name, value in (logs or {}).items()}
        done = f"[{self.name}] {self.progress.done:,} of {self.total:,} steps"
        LOG.info("%s: loss %s", done, shown.pop("loss", "unknown"))
        if shown:
            LOG.debug("%s: %s", done, ", ".join(f"{name} {value}" for name, value in shown.items()))


class Checkpoints(keras.callbacks.Callback):
    """Saves a checkpoint at the end of each epoch: weights, optimiser, loss scale and number of steps.

    Args:
        model: compiled model, which counts its steps in `model.steps`.
        directory: folder of the checkpoints. The last two are kept.
        every: number of steps after which a checkpoint is saved within an epoch, too.
        rate: what messages call the learning rate.

    Raises (from fit):
        DivergenceError: the loss of an epoch, or a weight after it, is not finite. The checkpoint before it is kept.
        TrainingError: the embeddings have collapsed. The checkpoint before it is kept. A callback before this one has
            to put UNIFORMITY into the logs.
    """

    def __init__(
        self, model: keras.Model, directory: Path, every: int | None = None, rate: str = "learning rate"
    ) -> None:
        super().__init__()
        self.checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        # Made now, as several workers have to make it together: the first saving, or a restoring, would do it.
        assert self.checkpoint.save_counter is not None
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(directory), max_to_keep=2)
        self.trained, self.every, self.rate = model, every, rate

    def variables(self) -> list[tf.Variable]:
        """All variables of the model and its optimizer, in an order that does not depend on what was restored."""
        parts = tf.train.TrackableView(self.trained).descendants()
        optimizer = self.trained.optimizer.variables()  # Its moments are no parts of it.
        variables = [*(part for part in parts if isinstance(part, tf.Variable)), *optimizer]
        return list({variable.ref(): variable for variable in variables}.values())

    def restore(self) -> int:
        """Restores the newest readable checkpoint.

        Returns:
            Number of steps that the checkpoint holds; 0 where there is no checkpoint.

        Raises:
            TrainingError: there are checkpoints, but none can be read.
        """
        reasons = []
        for path in reversed(self.manager.checkpoints):
            try:
                self.checkpoint.restore(path).assert_existing_objects_matched()
            except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:  # A cut file: IndexError.
                reasons.append(f"{path}: {str(error).splitlines()[0]}")
                LOG.warning("checkpoint refused: %s", reasons[-1])
            else:
                return int(self.trained.steps.numpy())
        if reasons:
            raise TrainingError("no checkpoint can be read:\n" + "\n".join(reasons))
        return 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.every and int(self.trained.steps.numpy()) % self.every == 0 and self._finite((logs or {})["loss"]):
            self.manager.save()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs or {}
        last = self.manager.latest_checkpoint
        kept = f"; the last good weights are in {last}" if last else ""
        if not self._finite(logs.get("loss", math.nan)):
            raise DivergenceError(
                f"the loss of epoch {epoch + 1} is {logs.get('loss')}, or weights after it are no numbers{kept}. "
                f"A lower {self.rate} or another precision may help."
            )
        if logs.get(UNIFORMITY, -math.inf) > COLLAPSED:
            raise TrainingError(
                f"after epoch {epoch + 1} all photos have the same embedding ({UNIFORMITY} {logs[UNIFORMITY]:.4f})"
                f"{kept}. A lower {self.rate} may help."
            )
        self.manager.save()

    def _finite(self, loss: float) -> bool:
        """Whether loss and weights are numbers. The loss of a step belongs to the weights before that step."""
        weights = self.trained.trainable_weights
        return math.isfinite(loss) and all(bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in weights)


class StopAfter(keras.callbacks.Callback):
    """Ends `fit` after a number of steps of the model, also in the middle of an epoch."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if int(self.model.steps.numpy()) >= self.steps:
            self.model.stop_training = True
