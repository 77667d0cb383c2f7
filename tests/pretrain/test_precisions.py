"""200 steps in each precision end at the loss of float32."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from beam_jobs.ingest import ingest
from courier_tf.pretrain.data import page_view_batches
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.photo_store import PhotoStore
from courier_tf.settings.presets import PRESETS
from courier_tf.shop import ShopSettings, make_shop
from courier_tf.training import precision_policy
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST

STEPS, LAST = 200, 50


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("precisions")
    make_shop(folder / "shop", ShopSettings(items=200, users=200, days=10, page_views=4000, photo_size=32))
    settings = dataclasses.replace(PRESETS["tiny"].ingest, image_size=32)
    ingest(str(folder / "shop"), folder / "ingest", settings, MadeBy("ingest", {}, {}))
    facts = artefacts.read(folder / "ingest", INGEST).facts
    store = PhotoStore.of(records.read_items(folder / "ingest", facts.item_columns), 32)
    # A data set is shuffled anew whenever it is gone through: each precision gets one of its own, in the same order.
    return lambda: page_view_batches(
        folder / "ingest", store, history_length=5, page_view_size=5, batch_rows=32, seed=0
    )


def losses(batches, precision):
    """The loss of each step."""
    tf.keras.utils.set_random_seed(0)
    with precision_policy(precision):
        model = CourierModel(Encoder("nano", 32, drop_path=0.05))
        model.compile(tf.keras.optimizers.Adam(5e-4))
        fitted = model.fit(batches(), steps_per_epoch=1, epochs=STEPS, verbose=0)
    return np.array(fitted.history["loss"])


@pytest.mark.slow
def test_every_precision_reaches_the_loss_of_float32(batches):
    expected = losses(batches, "float32")
    assert expected[-LAST:].mean() < 0.97 * expected[:10].mean(), "it must have learned something"
    for precision in ("mixed_bfloat16", "mixed_float16"):
        reached = losses(batches, precision)
        assert reached[-LAST:].mean() == pytest.approx(expected[-LAST:].mean(), rel=0.02), precision
