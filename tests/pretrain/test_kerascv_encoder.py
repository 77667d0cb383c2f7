"""A network of KerasCV as the backbone of the encoder: training, replicas, GradCache, files, frozen stages."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.backbone.keras_cv_networks import NETWORKS
from courier_tf.pretrain import fit
from courier_tf.pretrain.data import deduplicated
from courier_tf.pretrain.encoder import Encoder, require_backbone
from courier_tf.pretrain.encoder_files import CONFIG_FILE, load_encoder, save_encoder
from courier_tf.pretrain.fit import new_encoder, scratch_backbone, slow_backbone
from courier_tf.pretrain.frozen_encoder import Embedder, export_embedder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.objectives.supervised import Supervised
from courier_tf.settings import PretrainSettings, SettingsError
from courier_tf.settings.presets import PRESETS
from courier_tf.spread import uniformity
from courier_tf.training import SlowPart, compile_with_adam, precision_policy
from courier_tf.workers.places import Places
from courier_tf.workers.workers import Workers
from serving.client.contract import DEFAULT_SIGNATURE
from tests.backbone.small_networks import LITE, small_networks

SIZE, ITEMS = 32, 12
RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 255, [ITEMS + 1, SIZE, SIZE, 3], dtype=np.uint8)


@pytest.fixture(scope="module", autouse=True)
def small():
    with small_networks():
        yield


def batch(rng=None):
    rng = rng or np.random.default_rng(1)
    page_view = tf.constant(rng.integers(1, ITEMS + 1, [6, 3]), tf.int32)
    history = tf.constant(rng.integers(1, ITEMS + 1, [6, 2]), tf.int32)
    clicked = tf.constant([[True, False, False]] * 6)
    return deduplicated(page_view, history, clicked, tf.constant(PHOTOS)) | {
        "user": tf.range(6, dtype=tf.int64),
        "day": tf.zeros([6], tf.int64),
    }


def model_of(chunk=0, part="all", **settings):
    tf.keras.utils.set_random_seed(1)
    return CourierModel(Encoder(LITE, 16, trainable_part=part, **settings), chunk=chunk)


def gradients_of(model):
    terms, gradients = tf.function(lambda: model.terms_and_gradients(batch(), tf.constant([0, 0], tf.int64)))()
    return float(terms.loss), [gradient.numpy() for gradient in gradients]


@pytest.mark.slow
@pytest.mark.parametrize("part", [pytest.param("all", marks=pytest.mark.slow), "last_1"])
def test_chunks_give_the_gradients_of_the_whole_batch(part):
    """They would not, if batch normalisation used the photos of the batch."""
    whole, chunked = gradients_of(model_of(part=part)), gradients_of(model_of(chunk=5, part=part))
    assert whole[0] == pytest.approx(chunked[0], rel=1e-5)
    assert len(whole[1]) == len(chunked[1])
    for first, second in zip(whole[1], chunked[1], strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5 * max(1, np.abs(second).max()))


@pytest.mark.slow
def test_training_in_every_precision(precision):
    model = model_of(part="last_2")
    compile_with_adam(model, 1e-3)
    before = {variable.name: variable.numpy() for variable in model.encoder.variables}
    history = model.fit(tf.data.Dataset.from_tensors(batch()).repeat(), epochs=2, steps_per_epoch=4, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    learning = {variable.name for variable in model.encoder.trainable_variables}
    assert learning and len(learning) < len(before)
    for variable in model.encoder.variables:
        same = np.array_equal(before[variable.name], variable)
        assert same or variable.name in learning, variable.name
        assert not same or variable.name not in learning or not before[variable.name].any(), variable.name


def halves(context):
    """Three page views of a batch for each of two replicas, in turn."""
    whole = batch()
    rows = [slice(0, 3), slice(3, 6)]
    parts = [{name: whole[name][part] for name in ("history", "page_view", "clicked", "user", "day")} for part in rows]
    parts = [{**part, "photos": whole["photos"], "photo_items": whole["photo_items"]} for part in parts]
    kinds = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in parts[0].items()}
    return tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=kinds).repeat()


@pytest.mark.slow
def test_two_replicas_train_like_one(two_replicas):
    whole = batch()

    def trained(scope, data):
        with scope:
            model = model_of()
            model.compile(tf.keras.optimizers.SGD(0.1))
        model.fit(data, steps_per_epoch=2, verbose=0)
        return [variable.numpy() for variable in model.encoder.variables]

    alone = trained(tf.distribute.get_strategy().scope(), tf.data.Dataset.from_tensors(whole).repeat())

    shared = trained(two_replicas.scope(), two_replicas.distribute_datasets_from_function(halves))
    for first, second in zip(alone, shared, strict=True):
        np.testing.assert_allclose(first, second, atol=2e-5)


@pytest.mark.slow
def test_a_backbone_that_waits_stays_as_it_is_in_every_replica(two_replicas):
    with two_replicas.scope(), precision_policy("mixed_bfloat16"):
        model = model_of()
        compile_with_adam(model, 1e-2, SlowPart(model.encoder.backbone.trainable_variables, 0.1, first_step=3))
        model.fit(two_replicas.distribute_datasets_from_function(halves), steps_per_epoch=1, verbose=0)

    def copies(variables):
        return [copy.numpy() for variable in variables for copy in variable.values]

    backbone, head = model.encoder.backbone.trainable_variables, model.encoder.head.trainable_variables
    before = copies(backbone), copies(head)
    for steps in (2, 1):
        model.fit(two_replicas.distribute_datasets_from_function(halves), steps_per_epoch=steps, verbose=0)
        moved = [not np.array_equal(first, second) for first, second in zip(before[0], copies(backbone), strict=True)]
        assert not any(moved) if steps == 2 else all(moved)
        assert not any(np.array_equal(first, second) for first, second in zip(before[1], copies(head), strict=True))


@pytest.mark.parametrize("name", [f"{LITE}@48", pytest.param(LITE, marks=pytest.mark.slow)])
def test_files_and_the_saved_model_give_the_same_embeddings(tmp_path, name):
    with precision_policy("mixed_bfloat16"):  # Saved from a training in it; both readers use float32.
        encoder = Encoder(name, 16)
    save_encoder(encoder, tmp_path / "encoder")
    loaded = load_encoder(tmp_path / "encoder")
    expected = loaded(PHOTOS, training=False).numpy()
    np.testing.assert_allclose(encoder(PHOTOS, training=False), expected, atol=0.05)
    np.testing.assert_allclose(loaded(PHOTOS, training=True), expected, atol=1e-6)
    export_embedder(tmp_path / "encoder", SIZE, tmp_path / "embedder")
    served = tf.saved_model.load(str(tmp_path / "embedder")).signatures[DEFAULT_SIGNATURE]
    encoded = tf.stack([tf.io.encode_png(photo) for photo in PHOTOS])
    np.testing.assert_allclose(served(photos=encoded)["embedding"], expected, atol=1e-5)
    embedder = Embedder(tmp_path / "encoder", SIZE)
    functions = embedder.embed.get_concrete_function().graph.as_graph_def()
    nodes = [*functions.node, *(node for function in functions.library.function for node in function.node_def)]
    assert not {node.op for node in nodes} & {"PyFunc", "EagerPyFunc"}
    # An op of this process alone would have no definition in a server: all have one in TensorFlow itself.
    from tensorflow.python.framework import op_def_registry

    assert all(op_def_registry.get(node.op) for node in nodes if node.op not in _functions(functions))


def _functions(graph):
    return {function.signature.name for function in graph.library.function}


def test_an_encoder_of_an_earlier_version_still_loads(tmp_path):
    """Its config knows neither parts nor KerasCV."""
    encoder = Encoder("micro", 8)
    save_encoder(encoder, tmp_path)
    config = {"backbone": "micro", "embedding_dim": 8, "drop_path": 0.05, "recompute": False}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    np.testing.assert_array_equal(load_encoder(tmp_path)(PHOTOS), encoder(PHOTOS))


@pytest.mark.parametrize("name", ["micro", LITE])
def test_the_last_stages_learn(name):
    whole = Encoder(name, 8)
    stages = whole.architecture.stages(whole.backbone)
    assert whole.architecture.stage_count == len(stages)
    for number in range(len(stages) + 1):
        part = f"last_{number}" if number else "head"
        encoder = Encoder(name, 8, trainable_part=part)
        names = [
            layer for stage in encoder.architecture.stages(encoder.backbone)[len(stages) - number :] for layer in stage
        ]
        layers = [encoder.backbone.get_layer(layer) for layer in names] + [encoder.head]
        expected = [variable.ref() for layer in layers for variable in layer.trainable_variables]
        assert [variable.ref() for variable in encoder.trainable_variables] == expected


def test_weights_of_others_go_into_a_frozen_backbone(tmp_path):
    source = NETWORKS[LITE].build()
    source.save_weights(tmp_path / "lite.weights.h5")
    settings = PretrainSettings(backbone=LITE, embedding_dim=8, trainable="last_1")
    encoder = new_encoder(settings, tmp_path / "lite.weights.h5")
    pixels = encoder.architecture.normalise(PHOTOS)
    np.testing.assert_allclose(encoder.backbone(pixels), source(pixels), atol=1e-5)
    assert len(encoder.trainable_variables) < len(Encoder(LITE, 8).trainable_variables)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "swin"}, "backbone must be one of nano, tiny"),
        ({"backbone": LITE, "trainable": "last_3"}, f"last_1 to last_2 with backbone={LITE}, but is 'last_3'"),
        ({"backbone": LITE, "recompute": True}, "recompute is for Swin alone"),
        ({"trainable": "last_0"}, "trainable must be all, head or last_N"),
        ({"trainable": "some"}, "but is 'some'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        require_backbone(PretrainSettings(**settings))


def test_weights_of_others_are_moved_later_and_slower(tmp_path, monkeypatch):
    settings = PretrainSettings(backbone=LITE, embedding_dim=8, trainable="last_1", pretrain_steps=100)
    encoder = new_encoder(settings, None)
    assert slow_backbone(settings, tmp_path, encoder) is None, "supervised pre-training has trained both parts"
    file = tmp_path / "weights.pth"
    file.touch()
    monkeypatch.setattr(fit, "is_pretrained", lambda name: name == LITE)
    for start in (file, None):
        slow = slow_backbone(settings, start, encoder)
        assert (slow.factor, slow.first_step) == (0.1, 10)
        assert len(slow.variables) == len(encoder.trainable_variables) - 2
    own = dataclasses.replace(settings, backbone_learning_rate_factor=0.5, head_first_steps=7)
    assert slow_backbone(own, tmp_path, encoder)[1:] == (0.5, 7)
    alike = dataclasses.replace(settings, backbone_learning_rate_factor=1.0, head_first_steps=0)
    assert slow_backbone(alike, None, encoder) is None


#: One of each family.
FAMILIES = ("efficientnetlite_b0", "efficientnetv2_b0", "mobilenet_v3_small", "resnet18_v2")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_networks_learn_from_random_weights(name):
    """At the rate of the presets. With statistics that stand still, all photos have the same embedding soon."""
    settings = dataclasses.replace(PRESETS["swin"].pretrain, backbone=name, embedding_dim=16)
    photos = coloured(np.random.default_rng(5), 96)
    encoder = new_encoder(settings, None, scratch_backbone(settings, 0, photos))
    assert uniformity(encoder(photos).numpy()) < -0.1
    model = CourierModel(encoder, Supervised([4]), weight_decay=0.0)
    compile_with_adam(model, settings.supervised_learning_rate)
    batch = {"photos": photos, "photo_items": np.arange(1, 97, dtype=np.int32), "codes": CLASSES[:, None]}
    data = tf.data.Dataset.from_tensors({key: tf.constant(value) for key, value in batch.items()}).repeat()
    losses = model.fit(data, epochs=2, steps_per_epoch=10, verbose=0).history["loss"]
    assert losses[1] < losses[0]
    assert uniformity(encoder(photos).numpy()) < -0.1
    save = encoder.get_weights()
    assert all(np.isfinite(weight).all() for weight in save)


CLASSES = np.arange(96, dtype=np.int32) % 4


def coloured(rng, number):
    """Noise of one of four colours."""
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [160, 160, 40]])
    noise = rng.integers(-60, 55, [number, SIZE, SIZE, 3])
    return (colours[CLASSES][:, None, None] + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", ["micro", f"{LITE}_imagenet"])
def test_only_random_weights_take_statistics(name, monkeypatch):
    monkeypatch.setattr(fit, "is_pretrained", lambda name: name.endswith("imagenet"))
    assert scratch_backbone(PretrainSettings(backbone=name), 0, PHOTOS) is None


def test_an_encoder_that_starts_from_weights_keeps_its_statistics(tmp_path):
    settings = PretrainSettings(backbone=LITE, embedding_dim=16)
    save_encoder(new_encoder(settings, None, scratch_backbone(settings, 0, PHOTOS)), tmp_path / "encoder")
    encoder = new_encoder(settings, tmp_path)
    norm = encoder.backbone.get_layer("stem_bn")
    before = norm.moving_mean.numpy(), norm.moving_variance.numpy()
    assert np.abs(before[0]).max() > 0
    encoder(PHOTOS, training=True)
    np.testing.assert_array_equal(before, (norm.moving_mean, norm.moving_variance))
    np.testing.assert_array_equal(encoder(PHOTOS, training=True), encoder(PHOTOS, training=False))


def test_workers_share_statistics(two_replicas):
    """They are read as means, and every replica counts its own."""
    with two_replicas.scope():
        norm = tf.keras.layers.BatchNormalization(momentum=0.0)
        norm.build([None, 3])
        metric = tf.keras.metrics.Mean()

    def of_replica():
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        norm.moving_mean.assign(tf.fill([3], tf.cast(number + 5, tf.float32)))
        metric.update_state(2.0)

    tf.function(lambda: two_replicas.run(of_replica), autograph=False)()
    workers = Workers(Places(("a:1", "b:2"), 0))
    workers.__dict__["_joined"] = two_replicas
    workers.share([*norm.variables, *metric.variables])
    for copy in two_replicas.experimental_local_results(norm.moving_mean):
        np.testing.assert_array_equal(copy, np.full(3, 5.0))
    assert float(metric.result()) == 2.0
