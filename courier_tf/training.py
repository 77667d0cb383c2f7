"""What both trainers share: replicas, mixed precision, and checkpoints that let an interrupted run go on."""

import contextlib
import functools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

keras = tf.keras

UNIFORMITY = "uniformity"  # Name of that gauge in the logs.
COLLAPSED = -0.001  # Uniformity at which embeddings are, on average, within 0.02 of each other on the unit sphere.


class TrainingError(RuntimeError):
    """Training cannot go on, or not as it was asked for."""


class DivergenceError(TrainingError):
    """The loss, the weights or the predictions are no numbers any more."""


def mirrored_strategy(replicas: int = 0, setting: str = "replicas") -> tf.distribute.MirroredStrategy:
    """One replica per GPU, or one on the CPU where there is none; says which devices these are.

    Args:
        replicas: GPUs to use; 0 for all.
        setting: what `replicas` is called.

    Returns:
        The same strategy each time it is asked for as many.

    Raises:
        TrainingError: more replicas than GPUs are asked for.
    """
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    if replicas > max(len(gpus), 1):
        raise TrainingError(f"{setting}={replicas}, but this machine has {len(gpus)} GPUs")
    devices = tuple(gpus[: replicas or None] or ["CPU:0"])
    print(f"trains on {', '.join(device.removeprefix('/device:') for device in devices)}", flush=True)
    return _strategy_over(devices)


@functools.cache
def _strategy_over(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """One per process: TensorFlow finds collectives by numbers in a table of the process, and each strategy begins at
    the same ones, so that a second would meet the shapes of the first. Those of another number of devices, which are
    a group of their own, get a range of numbers of their own."""
    own = {"_collective_key_base": 100_000 * len(devices)}
    return type("Mirrored", (tf.distribute.MirroredStrategy,), own)(list(devices))


def rows_per_replica(global_rows: int, strategy: tf.distribute.Strategy, setting: str) -> int:
    """The share of a global batch that each replica gets.

    Raises:
        TrainingError: it cannot be shared out evenly; `setting` is named.
    """
    share, rest = divmod(global_rows, strategy.num_replicas_in_sync)
    if rest or not share:
        raise TrainingError(
            f"{setting}={global_rows} is not a multiple of the {strategy.num_replicas_in_sync} replicas"
        )
    return share


@contextlib.contextmanager
def precision_policy(policy: str) -> Iterator[None]:
    """Sets the Keras mixed-precision policy for the layers built inside, and restores the former one."""
    former = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(former)


def compile_with_adam(model: keras.Model, learning_rate: Any) -> None:
    """Compiles a built model with Adam, its moments made at once, so that a checkpoint finds them.

    Args:
        learning_rate: a number or a schedule.
    """
    # The legacy one updates each variable by one fused op, in a fifth of the time.
    model.compile(keras.optimizers.legacy.Adam(learning_rate))
    model.optimizer._create_all_weights(model.trainable_variables)  # Only this method makes them before the first step.


def progress() -> int:
    """Keras's `verbose`: a progress bar on a terminal, a line per epoch in a log file."""
    return 1 if sys.stdout.isatty() else 2


class Checkpoints(keras.callbacks.Callback):
    """Saves weights, optimiser, loss scale and the number of steps at the end of each epoch; `restore` takes them up.

    Args:
        model: compiled; counts its steps in `model.steps`.
        directory: where the checkpoints are; the last two are kept.
        every: save each time so many steps are done, too.

    Raises (from fit):
        DivergenceError: the loss of an epoch is not finite, or the weights after it are not; the checkpoint before it
            is kept.
        TrainingError: the embeddings have collapsed (where a callback before this one has put UNIFORMITY into the
            logs); so is it then.
    """

    def __init__(self, model: keras.Model, directory: Path, every: int | None = None) -> None:
        super().__init__()
        self.checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(directory), max_to_keep=2)
        self.trained, self.every = model, every

    def restore(self) -> int:
        """Restores the newest readable checkpoint, if there is one; returns the number of steps it holds.

        Raises:
            TrainingError: there are checkpoints, and none can be read.
        """
        reasons = []
        for path in reversed(self.manager.checkpoints):
            try:
                self.checkpoint.restore(path).assert_existing_objects_matched()
            except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:  # The last: a cut file.
                reasons.append(f"{path}: {str(error).splitlines()[0]}")
                print(f"checkpoint refused: {reasons[-1]}", file=sys.stderr)
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
        kept = f"the last good weights are in {self.manager.latest_checkpoint}"
        if not self._finite(logs.get("loss", math.nan)):
            raise DivergenceError(
                f"the loss of epoch {epoch + 1} is {logs.get('loss')}, or weights after it are no numbers; {kept}. A "
                "lower learning rate or another precision may help."
            )
        if logs.get(UNIFORMITY, -math.inf) > COLLAPSED:
            raise TrainingError(
                f"after epoch {epoch + 1} all photos have the same embedding ({UNIFORMITY} {logs[UNIFORMITY]:.4f}); "
                f"{kept}. A lower learning rate or a longer supervised pre-training may help."
            )
        self.manager.save()

    def _finite(self, loss: float) -> bool:
        """Also of the weights: the loss of a step is that of the weights before it."""
        weights = self.trained.trainable_weights
        return math.isfinite(loss) and all(bool(tf.reduce_all(tf.math.is_finite(weight))) for weight in weights)


class StopAfter(keras.callbacks.Callback):
    """Ends `fit` after a number of steps of the model, in the middle of an epoch if need be."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if int(self.model.steps.numpy()) >= self.steps:
            self.model.stop_training = True
