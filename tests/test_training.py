"""Checkpoints that are whole, broken or somebody else's; the end of a training in the middle of an epoch."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.training import (
    Checkpoints,
    DivergenceError,
    SlowPart,
    StopAfter,
    TrainingError,
    compile_with_adam,
    mirrored_strategy,
    rows_per_replica,
)

keras = tf.keras


class Line(keras.Model):
    """y = w x, with the counter that the callbacks read."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(width)
        self.dense.build([None, 1])
        self.steps = self.add_weight("steps", [], "int64", "zeros", trainable=False)
        self.compile(keras.optimizers.SGD(0.1), "mse")
        self.optimizer.build(self.trainable_variables)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        self.steps.assign_add(1)
        return super().train_step(data)


def trained(directory, model, epochs, callbacks=(), label=1.0, every=None):
    data = tf.data.Dataset.from_tensors((tf.ones([4, 1]), tf.fill([4, 1], label))).repeat()
    checkpoints = Checkpoints(model, directory, every)
    checkpoints.restore()
    model.fit(data, epochs=epochs, steps_per_epoch=3, callbacks=[*callbacks, checkpoints], verbose=0)
    return checkpoints


def data_files(directory, number):
    return list(directory.glob(f"ckpt-{number}.data*"))


@pytest.mark.slow
def test_the_newest_checkpoint_is_taken_up(tmp_path):
    first, again = Line(), Line()
    trained(tmp_path, first, 2)
    assert Checkpoints(again, tmp_path).restore() == 6
    np.testing.assert_array_equal(again.dense.kernel, first.dense.kernel)
    assert Checkpoints(Line(), tmp_path / "empty").restore() == 0


def test_a_broken_checkpoint_gives_way_to_the_one_before(tmp_path, caplog):
    first, again = Line(), Line()
    trained(tmp_path, first, 1)
    after_one = first.dense.kernel.numpy().copy()
    trained(tmp_path, first, 1)  # Numbered on: the second checkpoint holds six steps.
    (newest,) = data_files(tmp_path, 2)
    newest.write_bytes(newest.read_bytes()[:20])
    assert Checkpoints(again, tmp_path).restore() == 3
    np.testing.assert_array_equal(again.dense.kernel, after_one)
    assert "checkpoint refused" in caplog.text
    (older,) = data_files(tmp_path, 1)
    older.write_bytes(b"")
    with pytest.raises(TrainingError, match="no checkpoint can be read"):
        Checkpoints(Line(), tmp_path).restore()


@pytest.mark.parametrize("scaled", [False, True])
def test_workers_share_all_that_a_checkpoint_holds(tmp_path, scaled):
    """In the same order before and after it was restored: one worker restores, and the others do not."""
    model = Pair().compiled(RATES, scaled)
    names = [variable.name for variable in Checkpoints(model, tmp_path).variables()]
    assert sum("/m:" in name for name in names) == sum("/v:" in name for name in names) == 2
    assert sum("fast" in name for name in names) == 3 and sum("slow" in name for name in names) == 3
    assert any("iter" in name for name in names) and scaled == any("scale" in name for name in names)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(str(tmp_path / "kept"))
    again = Pair().compiled(RATES, scaled)
    checkpoints = Checkpoints(again, tmp_path)
    checkpoints.checkpoint.restore(path)
    assert [variable.name for variable in checkpoints.variables()] == names


def test_a_foreign_checkpoint_is_refused(tmp_path):
    trained(tmp_path, Line(width=3), 1)
    with pytest.raises(TrainingError, match="no checkpoint can be read"):
        Checkpoints(Line(), tmp_path).restore()


def test_stops_in_the_middle_of_an_epoch(tmp_path):
    model = Line()
    trained(tmp_path, model, 5, [StopAfter(7)])
    assert int(model.steps.numpy()) == 7


def test_a_loss_that_is_no_number_keeps_the_checkpoint_before(tmp_path):
    model = Line()
    trained(tmp_path, model, 1)
    good = model.dense.kernel.numpy().copy()
    with pytest.raises(DivergenceError, match="the loss of epoch 1 is nan"):
        trained(tmp_path, model, 1, label=np.nan)
    again = Line()
    assert Checkpoints(again, tmp_path).restore() == 3
    np.testing.assert_array_equal(again.dense.kernel, good)


class Spoil(keras.callbacks.Callback):
    """The last update of an epoch overflows, and only the weights show it."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            self.model.dense.kernel.assign([[np.nan]])


@pytest.mark.parametrize("every", [None, 3])
def test_weights_that_are_no_numbers_are_never_kept(tmp_path, every):
    model = Line()
    trained(tmp_path, model, 1)
    good = model.dense.kernel.numpy().copy()
    with pytest.raises(DivergenceError, match="or weights after it are no numbers"):
        trained(tmp_path, model, 1, [Spoil()], every=every)
    again = Line()
    assert Checkpoints(again, tmp_path).restore() == 3
    np.testing.assert_array_equal(again.dense.kernel, good)


def test_shares_of_a_batch(two_replicas):
    assert rows_per_replica(8, two_replicas, "rows") == 4
    with pytest.raises(TrainingError, match="rows=7 is not a multiple of the 2 replicas"):
        rows_per_replica(7, two_replicas, "rows")
    with pytest.raises(TrainingError, match="replicas=5, but this machine has"):
        mirrored_strategy(5)


RANKERS = """
import courier_tf
import numpy as np
import tensorflow as tf
from courier_tf.process import shown_logs
from courier_tf.ranking.model import Ranker
from courier_tf.training import mirrored_strategy
from tests.ranking.shop import features, plan

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 3 * [tf.config.LogicalDeviceConfiguration()])
devices = tf.config.list_logical_devices("CPU")
tf.config.list_logical_devices = lambda kind: devices
batch = features(np.random.default_rng(0), 6)
for replicas, dim in ((2, 4), (2, 6), (3, 4), (2, 4)):
    with shown_logs():
        strategy = mirrored_strategy(replicas)
    with strategy.scope():
        ranker = Ranker(*plan("cluster_id", dim=dim))
        ranker({name: value[:1] for name, value in batch.items()}, training=False)
        ranker.compile(tf.keras.optimizers.SGD(0.1))
    ranker.fit(tf.data.Dataset.from_tensor_slices(batch).batch(6).repeat(), steps_per_epoch=2, verbose=0)
    print(strategy.num_replicas_in_sync, int(ranker.steps.numpy()))
"""


@pytest.mark.slow
def test_one_training_follows_another_in_a_process():
    """Of other shapes, on as many replicas and on more: what `courier run` does on several GPUs."""
    done = subprocess.run([sys.executable, "-c", RANKERS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    words = "trains on CPU:0, CPU:1\n2 2\n"
    assert done.stdout == 2 * words + "trains on CPU:0, CPU:1, CPU:2\n3 2\n" + words


class Pair(keras.Model):
    """Two weights, of which one may learn slower."""

    def __init__(self) -> None:
        super().__init__()
        self.fast = self.add_weight("fast", [3], initializer="ones")
        self.slow = self.add_weight("slow", [2], initializer="ones")

    def compiled(self, schedule, scaled=False):
        compile_with_adam(self, schedule, SlowPart([self.slow], 0.25, 2))
        if scaled:
            self.optimizer = keras.mixed_precision.LossScaleOptimizer(self.optimizer)
            self.optimizer._create_all_weights(self.trainable_variables)
        return self

    def learn(self, gradients):
        self.optimizer.apply_gradients(zip(gradients, [self.fast, self.slow], strict=True))


def adam_in_numpy(gradients, rates):
    """Ones after Adam's steps (arXiv 1412.6980, algorithm 1, with the order of section 2's end, as TensorFlow does)."""
    weight, m, v = np.ones_like(gradients[0]), 0.0, 0.0
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        weight = weight - rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-7)
    return weight


STEPS = [[np.random.default_rng(step).normal(size=size) for size in (3, 2)] for step in range(5)]
RATES = keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)


def expected_pair():
    rates = [float(RATES(step)) for step in range(5)]
    later = [0.0 if step < 2 else 0.25 * rate for step, rate in enumerate(rates)]
    return [adam_in_numpy([step[place] for step in STEPS], part) for place, part in enumerate((rates, later))]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_slow_part_learns_as_adam_in_numpy(scaled):
    model = Pair().compiled(RATES, scaled)
    step = tf.function(model.learn)
    for number, gradients in enumerate(STEPS):
        step([tf.constant(gradient, tf.float32) for gradient in gradients])
        assert number >= 2 or model.slow.numpy().tolist() == [1.0, 1.0]
    for variable, expected in zip((model.fast, model.slow), expected_pair(), strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-5)


def test_replicas_share_the_slow_part(two_replicas):
    with two_replicas.scope():
        model = Pair().compiled(RATES)

    @tf.function
    def step(gradients):
        two_replicas.run(lambda: model.learn([tf.identity(gradient) for gradient in gradients]))

    for gradients in STEPS:  # Gradients are added up over the replicas.
        halves = [tf.constant(gradient / 2, tf.float32) for gradient in gradients]
        step(halves)
    for variable, expected in zip((model.fast, model.slow), expected_pair(), strict=True):
        assert len(variable.values) == 2
        for copy in variable.values:
            np.testing.assert_allclose(copy, expected, rtol=1e-5)


def test_a_slow_part_goes_on_from_a_checkpoint(tmp_path):
    first = Pair().compiled(RATES)
    for gradients in STEPS[:3]:
        first.learn([tf.constant(gradient, tf.float32) for gradient in gradients])
    path = tf.train.Checkpoint(model=first, optimizer=first.optimizer).save(str(tmp_path / "kept"))
    again = Pair().compiled(RATES)
    tf.train.Checkpoint(model=again, optimizer=again.optimizer).restore(path).assert_existing_objects_matched()
    for gradients in STEPS[3:]:
        again.learn([tf.constant(gradient, tf.float32) for gradient in gradients])
    for variable, expected in zip((again.fast, again.slow), expected_pair(), strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-5)
