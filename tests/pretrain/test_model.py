"""CourierModel: de-duplication, one and two replicas, precisions, saving."""

from functools import partial

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.pretrain.data import BUCKET, deduplicated
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.encoder_files import EncoderError, load_encoder, load_weights, save_encoder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.objectives.courier import Courier
from courier_tf.pretrain.photo_store import PhotoStore
from courier_tf.training import precision_policy

SIZE, ITEMS = 32, 20


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    photos = rng.integers(0, 255, [ITEMS + 1, SIZE, SIZE, 3], dtype=np.uint8)
    photos[0] = 0
    return photos


def numbers(rng, rows=8, size=3, history=4):
    """Item numbers of a batch with padding, repeats, an empty history and a row without a click."""
    page_view = rng.integers(1, ITEMS + 1, [rows, size]).astype(np.int32)
    past = rng.integers(1, ITEMS + 1, [rows, history]).astype(np.int32)
    clicked = rng.random([rows, size]) < 0.5
    page_view[0, 2], past[1], clicked[2], past[3, 1:] = 0, 0, False, 0
    return page_view, past, clicked


def build(strategy=None, optimizer=None, encoder=None, objective=Courier, **settings):
    tf.keras.utils.set_random_seed(1)
    scope = strategy.scope() if strategy else tf.distribute.get_strategy().scope()
    with scope:
        model = CourierModel(encoder or Encoder("micro", 16), objective(), **settings)
        model.compile(optimizer() if optimizer else tf.keras.optimizers.SGD(0.1))
    return model


def step_of(model, batch, seed=(0, 0)):
    """(loss, gradients) of one compiled step."""
    terms, gradients = tf.function(lambda: model.terms_and_gradients(batch, tf.constant(seed, tf.int64)))()
    return float(terms.loss), [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def assert_same_step(one, other):
    np.testing.assert_allclose(one[0], other[0], rtol=1e-5)
    for first, second in zip(one[1], other[1], strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5 * max(1, np.abs(second).max()))


def test_each_photo_once_and_gradients_as_if_each_slot_were_encoded(pixels):
    """Against a batch in which every slot has a photo of its own."""
    page_view, past, clicked = numbers(np.random.default_rng(1))
    batch = deduplicated(tf.constant(page_view), tf.constant(past), tf.constant(clicked), tf.constant(pixels))
    different = set(page_view.ravel()) | set(past.ravel())
    assert np.count_nonzero(batch["photo_items"]) == len(different - {0}) < page_view.size + past.size
    assert len(batch["photos"]) % BUCKET == 0
    slots = np.concatenate([page_view.ravel(), past.ravel()])
    naive = {
        "photos": tf.gather(pixels, slots),
        "photo_items": tf.constant(slots),
        "page_view": tf.reshape(tf.range(page_view.size), page_view.shape),
        "history": tf.reshape(tf.range(page_view.size, len(slots)), past.shape),
        "clicked": batch["clicked"],
    }
    model = build()
    once, each = step_of(model, batch), step_of(model, naive)
    assert once[0] > 0.1
    assert_same_step(once, each)


@pytest.mark.parametrize("chunk", [7, *(pytest.param(size, marks=pytest.mark.slow) for size in (32, 1000))])
def test_chunks_give_the_gradients_of_the_whole_batch(pixels, chunk):
    """GradCache with stochastic depth on: both passes drop the residuals that the direct step drops."""
    batch = deduplicated(*map(tf.constant, numbers(np.random.default_rng(1))), tf.constant(pixels))
    steps = []
    for size, seed in ((0, (3, 5)), (chunk, (3, 5)), (0, (3, 6))):
        tf.keras.utils.set_random_seed(4)
        model = CourierModel(Encoder("micro", 16, drop_path=0.5), chunk=size)
        model.compile(tf.keras.optimizers.SGD(0.1))
        steps.append(step_of(model, batch, seed))
    assert_same_step(steps[0], steps[1])
    assert abs(steps[0][0] - steps[2][0]) > 1e-4, "another seed drops other residuals"


@pytest.mark.parametrize("reconstruction", ["weighted_sum", pytest.param("multi_head", marks=pytest.mark.slow)])
def test_two_replicas_train_like_one(pixels, two_replicas, reconstruction):
    """The same global batch gives the same weights: negatives, means and gradients are global."""
    rng = np.random.default_rng(2)
    halves = [numbers(rng), numbers(rng)]
    steps = 3

    def dataset(parts):
        batches = [deduplicated(*map(tf.constant, part), tf.constant(pixels)) for part in parts]
        stacked = tf.data.Dataset.from_generator(
            lambda: iter(batches),
            output_signature={
                name: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for name, value in batches[0].items()
            },
        )
        return stacked.repeat(steps)

    together = [np.concatenate([half[place] for half in halves]) for place in range(3)]
    objective = partial(Courier, reconstruction)
    single = build(objective=objective)
    start = [weight.numpy() for weight in single.trainable_variables]
    first = single.fit(dataset([together]), epochs=1, verbose=0)
    double = build(two_replicas, objective=objective)
    for one, other in zip(start, double.trainable_variables, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    distributed = two_replicas.distribute_datasets_from_function(lambda _: dataset(halves))
    second = double.fit(distributed, steps_per_epoch=steps, epochs=1, verbose=0)
    assert first.history["loss"][0] == pytest.approx(second.history["loss"][0], rel=1e-5)
    assert first.history["targets"][0] == pytest.approx(second.history["targets"][0])
    moved = 0.0
    for begin, one, other in zip(start, single.trainable_variables, double.trainable_variables, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)
        moved = max(moved, np.abs(one.numpy() - begin).max())
    assert moved > 1e-3


def test_compiled_training_in_every_precision(pixels, precision):
    page_view, past, clicked = numbers(np.random.default_rng(3))
    batch = deduplicated(*map(tf.constant, (page_view, past, clicked)), tf.constant(pixels))
    model = build(optimizer=lambda: tf.keras.optimizers.Adam(1e-3))
    history = model.fit(tf.data.Dataset.from_tensors(batch).repeat(8), epochs=2, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]
    assert model.encoder(batch["photos"]).dtype == tf.float32
    assert all(weight.dtype == tf.float32 for weight in model.trainable_variables)


def test_float16_recovers_from_an_overflow(pixels):
    """A loss scale far too high: steps are skipped, not taken with infinities, until it has come down."""
    batch = deduplicated(*map(tf.constant, numbers(np.random.default_rng(3))), tf.constant(pixels))
    data = tf.data.Dataset.from_tensors(batch).repeat()
    with precision_policy("mixed_float16"):
        scaled = tf.keras.mixed_precision.LossScaleOptimizer(tf.keras.optimizers.SGD(0.1), initial_scale=2.0**40)
        model = build(optimizer=lambda: scaled, weight_decay=0.1)
        start = [weight.numpy() for weight in model.trainable_variables]
        model.fit(data, steps_per_epoch=1, verbose=0)
        for weight, before in zip(model.trainable_variables, start, strict=True):
            np.testing.assert_array_equal(weight, before)
        assert float(scaled.loss_scale) == 2.0**39 and int(model.steps) == 1
        losses = model.fit(data, steps_per_epoch=1, epochs=50, verbose=0).history["loss"]
    assert 1 < float(scaled.loss_scale) < 2.0**25
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert losses[-1] < losses[0] and int(model.steps) == 51


def test_a_step_is_traced_once_whatever_the_number_of_photos(pixels):
    class Counting(Courier):
        calls = 0

        def call(self, embeddings, batch):
            Counting.calls += 1
            return super().call(embeddings, batch)

    more = np.concatenate([pixels] * 4)
    batches = []
    for known in (3, 20, 80):
        rng = np.random.default_rng(known)
        page_view, past, clicked = numbers(rng, rows=16)
        page_view, past = (rng.integers(1, known + 1, part.shape).astype(np.int32) for part in (page_view, past))
        batches.append(deduplicated(*map(tf.constant, (page_view, past, clicked)), tf.constant(more)))
    assert [len(batch["photos"]) for batch in batches] == [32, 32, 64]
    specs = {k: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for k, v in batches[0].items()}
    data = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=specs)
    model, calls = build(objective=Counting), []
    for number in (1, 3):  # The first step alone may be traced twice: it makes the optimiser's slots.
        model.fit(data.take(number), verbose=0)
        calls.append(Counting.calls)
    assert calls[0] == calls[1]
    # A data set that ends is no step more.
    assert int(model.steps) == int(model.optimizer.iterations) == 4


def test_weight_decay_is_added_to_the_gradient(pixels):
    """Without any target the step is the decay alone."""
    page_view, past, clicked = numbers(np.random.default_rng(4))
    batch = deduplicated(*map(tf.constant, (page_view, past, clicked & False)), tf.constant(pixels))
    model = build(optimizer=lambda: tf.keras.optimizers.SGD(0.5), weight_decay=0.1)
    before = [weight.numpy() for weight in model.trainable_variables]
    history = model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
    assert history.history["loss"] == [0.0]
    for weight, start in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(weight.numpy(), start * (1 - 0.5 * 0.1), rtol=1e-5, atol=1e-7)


def test_a_saved_model_goes_on_where_it_was(tmp_path, pixels):
    """The file holds encoder, objective, optimiser and steps; no custom objects have to be named."""
    batch = deduplicated(*map(tf.constant, numbers(np.random.default_rng(5))), tf.constant(pixels))
    data = tf.data.Dataset.from_tensors(batch).repeat()
    model = build(
        optimizer=lambda: tf.keras.optimizers.Adam(1e-2), objective=partial(Courier, "multi_head", temperature=0.1)
    )
    model.fit(data, steps_per_epoch=2, verbose=0)
    model.save(tmp_path / "courier.keras")
    again = tf.keras.models.load_model(tmp_path / "courier.keras")
    assert again.get_config() == model.get_config() and int(again.steps) == 2
    for trained in (model, again):
        trained.fit(data, steps_per_epoch=2, verbose=0)
    for first, second in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


def test_encoder_files(tmp_path, pixels):
    encoder = Encoder("micro", 16)
    expected = encoder(pixels)
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, rtol=1e-5)
    save_encoder(encoder, tmp_path)
    np.testing.assert_array_equal(load_encoder(tmp_path)(pixels), expected)
    with pytest.raises(EncoderError, match="embedding_dim=16, but 8 is asked for"):
        load_weights(Encoder("micro", 8), tmp_path)
    with pytest.raises(EncoderError, match="holds no encoder"):
        load_encoder(tmp_path / "nowhere")


def test_photo_store_numbers():
    from courier_tf.workdir.records import Items

    png = tf.io.encode_png(np.zeros([4, 4, 3], np.uint8)).numpy()
    items = Items(
        np.array([b"a", b"b", b"c"], object), {}, np.array([b""] * 3, object), np.zeros(3), np.zeros(3), np.zeros(3),
        np.array([png, b"", png], object),
    )  # fmt: skip
    store = PhotoStore.of(items, 4)
    ids = np.array([b"c", b"b", b"a", b"zz", b""], object)
    np.testing.assert_array_equal(store.numbers(ids), [3, 0, 1, 0, 0])
    np.testing.assert_array_equal(store.lookup().lookup(tf.constant(ids)), [3, 0, 1, 0, 0])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="reconstruction must be one of"):
        Courier(reconstruction="none")
    with pytest.raises(ValueError, match="temperature must be positive"):
        Courier(temperature=0)
    with pytest.raises(ValueError, match="negatives must be one of"):
        Courier(negatives="none")
    with pytest.raises(ValueError, match="chunk must not be negative"):
        CourierModel(Encoder("micro", 16), chunk=-1)
    with pytest.raises(ValueError, match="backbone must be one of"):
        Encoder("huge")
