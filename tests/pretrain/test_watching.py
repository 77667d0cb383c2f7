"""What a run tells of itself: spread of the embeddings, throughput, and when a collapse stops it."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.pretrain import watching
from courier_tf.pretrain.data import deduplicated
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.watching import Spread, Throughput, keep_epochs
from courier_tf.spread import effective_rank
from courier_tf.training import Checkpoints, DivergenceError, TrainingError

PHOTOS = np.random.default_rng(0).integers(0, 255, [9, 16, 16, 3], dtype=np.uint8)


def test_a_divergence_is_told_as_such(tmp_path):
    """Not as what fails of it: the singular values of embeddings that are no numbers."""
    assert np.isnan(effective_rank(np.array([[1.0, np.nan], [0.0, 1.0]])))
    model, data = model_and_data()
    model.optimizer.learning_rate.assign(np.inf)
    checkpoints = Checkpoints(model, tmp_path, rate="--pretrain-learning-rate")
    with pytest.raises(DivergenceError, match="A lower --pretrain-learning-rate or another") as told:
        model.fit(data, steps_per_epoch=2, callbacks=[Spread(PHOTOS), checkpoints], verbose=0)
    assert "None" not in str(told.value) and "last good weights" not in str(told.value), "there are none yet"


def model_and_data():
    tf.keras.utils.set_random_seed(0)
    model = CourierModel(Encoder("micro", 8))
    model.compile(tf.keras.optimizers.SGD(1e-3))
    model.optimizer.build(model.trainable_variables)
    page_view, past = np.array([[1, 2, 0], [3, 4, 5]], np.int32), np.array([[5, 6], [7, 0]], np.int32)
    batch = deduplicated(
        tf.constant(page_view), tf.constant(past), tf.constant(page_view == page_view[:, :1]), tf.constant(PHOTOS)
    )
    return model, tf.data.Dataset.from_tensors(batch).repeat()


def test_logs_of_an_epoch(tmp_path, monkeypatch):
    """With a clock that stands still but for two seconds an epoch: 3 steps, 7 photos and 8 slots a step."""
    model, data = model_and_data()
    times = iter([0.0, 2.0, 10.0, 12.0])
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: next(times)))
    file = tmp_path / "steps.csv"
    callbacks = [Throughput(), Spread(PHOTOS), tf.keras.callbacks.CSVLogger(str(file))]
    model.fit(data, epochs=2, steps_per_epoch=3, callbacks=callbacks, verbose=0)
    with file.open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        assert float(row["photos/s"]) == pytest.approx(7 * 3 / 2)
        assert float(row["slots/s"]) == pytest.approx(8 * 3 / 2)
        assert float(row["deduplication"]) == pytest.approx(8 / 7)
    embeddings = model.encoder(PHOTOS).numpy()
    distances = [((a - b) ** 2).sum() for i, a in enumerate(embeddings) for j, b in enumerate(embeddings) if i != j]
    assert float(rows[-1]["uniformity"]) == pytest.approx(np.log(np.mean(np.exp(-2 * np.array(distances)))), rel=1e-3)
    assert 1 <= float(rows[-1]["effective_rank"]) <= 8


@pytest.mark.slow
def test_rows_that_no_checkpoint_holds_are_dropped(tmp_path):
    """A run killed between the log and the checkpoint, in the middle of a row: the epoch is run and logged again."""
    file = tmp_path / "steps.csv"
    keep_epochs(file, 3)
    assert not file.exists()
    file.write_text("epoch,loss\n0,3.5\n1,3.25\n2,3.")
    keep_epochs(file, 2)
    assert file.read_text() == "epoch,loss\n0,3.5\n1,3.25\n"
    model, data = model_and_data()
    model.fit(data, steps_per_epoch=1, verbose=0, callbacks=[tf.keras.callbacks.CSVLogger(str(file), append=True)])
    assert len(file.read_text().splitlines()) == 4
    keep_epochs(file, 0)
    assert not file.exists()


def test_a_collapse_stops_the_run_and_keeps_the_checkpoint_before(tmp_path):
    model, data = model_and_data()
    checkpoints = Checkpoints(model, tmp_path)
    callbacks = [Spread(PHOTOS), checkpoints]
    model.fit(data, epochs=1, steps_per_epoch=2, callbacks=callbacks, verbose=0)
    good = model.encoder.head.kernel.numpy().copy()
    model.encoder.head.kernel.assign(tf.zeros_like(good))  # All photos to the bias alone.
    model.encoder.head.bias.assign(tf.ones(8))
    model.optimizer.learning_rate.assign(0.0)
    with pytest.raises(
        TrainingError, match="after epoch 1 all photos have the same embedding.*weights are in .*ckpt-1"
    ):
        model.fit(data, epochs=1, steps_per_epoch=1, callbacks=callbacks, verbose=0)
    again, _ = model_and_data()
    assert Checkpoints(again, tmp_path).restore() == 2
    np.testing.assert_array_equal(again.encoder.head.kernel, good)


def test_dead_embeddings_stop_the_run(tmp_path):
    """Zeros have a scalar product of 0, as photos have that are far apart."""
    model, data = model_and_data()
    for weight in (model.encoder.head.kernel, model.encoder.head.bias):
        weight.assign(tf.zeros_like(weight))
    model.optimizer.learning_rate.assign(0.0)
    with pytest.raises(TrainingError, match="all photos have the same embedding"):
        model.fit(data, steps_per_epoch=1, callbacks=[Spread(PHOTOS), Checkpoints(model, tmp_path)], verbose=0)
