"""An objective that a test adds, by one class and one call: it goes through the whole chain."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from courier_tf.chain.chain import Chain
from courier_tf.commands.predict import predict
from courier_tf.pretrain.objectives.objective import Objective, Terms, total
from courier_tf.pretrain.objectives.registry import OBJECTIVES, register
from courier_tf.settings import PretrainSettings, PreviousSettings, SettingsError
from courier_tf.training import StopAfter
from courier_tf.workdir.records import read_items
from tests.chain.conftest import finished, tiny  # noqa: F401
from tests.chain.encoder_files import weights


class TitleLength(Objective):
    """Regression of the length of an item's title on the embedding of its photo."""

    option = "title_length"
    gauges = ("targets",)
    similarity_name = "same_length"

    @classmethod
    def check(cls, settings):
        if settings.temperature is not None:
            raise SettingsError(f"title_length has no softmax, but temperature is {settings.temperature}")

    @classmethod
    def attributes(cls, settings, data):
        return {"title_length": np.array([0, *map(len, data.items.titles)], np.float32) / 10}

    def build(self, input_shape):
        self.readout = keras.layers.Dense(1, name="readout")
        with tf.name_scope("readout"):
            self.readout.build([None, input_shape[-1]])
        super().build(input_shape)

    def call(self, embeddings, batch):
        real = tf.cast(batch["photo_items"] > 0, tf.float32)
        error = tf.square(self.readout(embeddings)[:, 0] - batch["title_length"]) * real
        return Terms(tf.reduce_sum(error) / total(tf.reduce_sum(real)), {"targets": tf.reduce_sum(real)})

    def similarity(self, candidate, history, mask):
        lengths = self.readout(tf.reshape(history, [-1, history.shape[-1]]))
        mean = tf.reduce_sum(tf.reshape(lengths, tf.shape(mask)) * tf.cast(mask, tf.float32), axis=1)
        return -tf.abs(self.readout(candidate)[:, 0] - mean / tf.reduce_sum(tf.cast(mask, tf.float32), axis=1))


@pytest.fixture
def title_length():
    """The objective, known while a test runs."""
    register(TitleLength)
    yield
    del OBJECTIVES[TitleLength.option]


def settings_with(**pretrain):
    settings = tiny()
    rank = dataclasses.replace(settings.rank, rank_modes=("none", "cluster_id"), rank_starts=1)
    pretrain = dataclasses.replace(settings.pretrain, **pretrain)
    return dataclasses.replace(settings, pretrain=pretrain, rank=rank)


def chain_beside(chain: Chain, workdir: Path, **pretrain) -> Chain:
    """A chain with other settings of pre-training, on the same ingest."""
    workdir.mkdir()
    for stage in ("ingest", "supervised"):
        (workdir / stage).symlink_to(chain.directory(stage))
    made = Chain(workdir, settings_with(**pretrain))
    made.write_settings()
    return made


def interrupt_at(step):
    def stop(self, batch, logs=None):
        if int(self.model.steps.numpy()) == step:
            raise KeyboardInterrupt

    return stop


@pytest.mark.slow
def test_it_goes_through_the_whole_chain(finished, tmp_path, monkeypatch, title_length):  # noqa: F811
    _, first = finished
    chain = chain_beside(first, tmp_path / "work", objective="title_length")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(StopAfter, "on_train_batch_end", interrupt_at(3))
        chain.pretrain()
    chain.pretrain()
    at_once = chain_beside(first, tmp_path / "at_once", objective="title_length")
    at_once.pretrain()
    file = "encoder/encoder.weights.h5"
    resumed = weights(chain.directory("pretrain") / file)
    assert resumed == weights(at_once.directory("pretrain") / file) != weights(chain.directory("supervised") / file)

    chain.embed()
    chain.cluster()
    chain.rank()
    held_out = chain.report()["held_out"]["pretrain"]
    assert 0 < held_out["same_length"] < 1 and "same_length_new_to_user" in held_out
    assert "reconstruction" not in held_out
    chain.export()
    items = [item.decode() for item in read_items(chain.directory("ingest"), []).ids[:3]]
    assert predict(chain.workdir, "u1", items[:2], [items[2]]).shape == (2,)

    same = chain_beside(first, tmp_path / "next", objective="title_length")
    settings = dataclasses.replace(same.settings, previous=PreviousSettings(previous=str(chain.workdir)))
    next_day = dataclasses.replace(same, settings=settings)
    next_day.pretrain()
    assert weights(next_day.directory("pretrain") / file) != resumed


@pytest.mark.parametrize("stage", ["run", "pretrain"])
@pytest.mark.parametrize(
    "pretrain, answer",
    [
        ({"objective": "title_size"}, "objective must be one of base, .*title_length, but is 'title_size'"),
        ({"objective": "title_length", "temperature": 0.1}, "title_length has no softmax, but temperature is 0.1"),
        ({"objective": "simcse", "drop_path": 0.0}, "drop_path must be above 0"),
        (
            {"objective": "simcse", "backbone": "resnet18_v2"},
            "objective=simcse .* backbone=resnet18_v2 does not have: take a Swin .nano, .*--trainable head",
        ),
        ({"objective": "simcse", "backbone": "resnet"}, "backbone must be one of"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_ingest(tmp_path, title_length, stage, pretrain, answer):
    chain = Chain(tmp_path, settings_with(**pretrain))
    with pytest.raises(SettingsError, match=answer):
        chain.run(str(tmp_path / "raw")) if stage == "run" else chain.pretrain()
    assert not chain.directory("ingest").exists()


@pytest.mark.parametrize("name", ["", "base", "courier"])
def test_an_objective_needs_a_name_of_its_own(name):
    with pytest.raises(ValueError, match=f"must be a name that no other objective has, but is '{name}'"):
        register(type("Another", (TitleLength,), {"option": name}))
    assert PretrainSettings().objective in OBJECTIVES
