"""A previous head goes on with the features that it was trained on, or is refused in a line."""

import re
import shutil

import pytest
import tensorflow as tf

from courier_tf.chain.previous_heads import require_same_side, require_unchanged, sources_of_head
from courier_tf.features.sources import source
from courier_tf.pretrain.encoder_files import fingerprint_of_encoder, save_encoder, save_extractor
from courier_tf.pretrain.head_encoder import HeadEncoder
from courier_tf.settings import SettingsError
from courier_tf.workdir.artefacts import Artefact
from courier_tf.workdir.facts import EncoderFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import PRETRAIN

from ..stage_facts import example

WITHOUT = "add --previous-encoder none$"


def head_on(place, *features, **facts):
    """A previous encoder; without features one that takes photos."""
    facts = example(EncoderFacts, features=features, image_size=32, **facts)
    return Artefact(place, MadeBy(PRETRAIN, {}, {}), "abc", facts, {})


def save_model(folder, factor):
    model = tf.Module()
    model.factor = tf.Variable(factor)
    spec = tf.TensorSpec([None, 32, 32, 3], tf.float32)
    model.run = tf.function(
        lambda photos: {"out": model.factor * tf.reduce_mean(photos, [1, 2])}, input_signature=[spec], autograph=False
    )
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.run})


@pytest.mark.parametrize("features", [("auto",), ("pixels+colour",), ("pixels", "pixels+colour"), ("pixels", "auto")])
def test_the_features_of_a_previous_head_are_the_only_candidate(features, tmp_path, caplog):
    caplog.set_level("INFO")
    assert sources_of_head(head_on(tmp_path, "pixels", "colour"), features, "nano") == ("pixels", "colour")
    assert "goes on with the features pixels+colour of the previous encoder" in caplog.text


@pytest.mark.parametrize("features", [("pixels",), ("colour+pixels",), ("pixels", "colour")])
def test_other_features_beside_a_previous_head_are_refused(features, tmp_path):
    given = re.escape(" ".join(features))
    told = rf"previous_encoder={tmp_path} is .*: take --features pixels\+colour or --features auto, or {WITHOUT}"
    with pytest.raises(SettingsError, match=f"^features={given}, but {told}"):
        sources_of_head(head_on(tmp_path, "pixels", "colour"), features, "nano")


def test_an_encoder_of_photos_is_no_previous_head(tmp_path):
    with pytest.raises(SettingsError, match="takes photos. Take --trainable all, or add"):
        sources_of_head(head_on(tmp_path), ("auto",), "nano")


def test_a_saved_model_that_has_gone_is_told_with_the_head_that_needs_it(tmp_path):
    folder = tmp_path / "model"
    save_model(folder, 1.0)
    assert sources_of_head(head_on(tmp_path, str(folder)), ("auto",), "nano") == (str(folder),)
    shutil.rmtree(folder)
    told = f"^previous_encoder={tmp_path}: its head takes the features of '{folder}', which cannot be had any more"
    with pytest.raises(SettingsError, match=rf"{told} \(.*no folder of a SavedModel\). Put it back, or {WITHOUT}"):
        sources_of_head(head_on(tmp_path, str(folder)), ("auto",), "nano")


def test_a_saved_model_that_has_changed_in_its_place_is_refused(tmp_path):
    folder, sources = tmp_path / "model", ["pixels", str(tmp_path / "model")]
    save_model(folder, 1.0)
    files = tmp_path / "previous" / "encoder"
    head = HeadEncoder(sources, [768, 3], 4)
    save_encoder(head, files)
    encoder = fingerprint_of_encoder(files, 32, save_extractor(head, 32, files))
    previous = head_on(files.parent, *sources, encoder=encoder)

    def decided_by():
        return {name: source(name).fingerprint() for name in (*sources, "colour")}

    require_unchanged(previous, files.parent, decided_by())
    shutil.move(folder, tmp_path / "kept")
    save_model(folder, 2.0)
    told = rf"pixels\+{folder}, but {folder} has changed in its place since it was trained, .* put the earlier one back"
    with pytest.raises(SettingsError, match=f"^previous_encoder={files.parent} is .*{told}, or {WITHOUT}"):
        require_unchanged(previous, files.parent, decided_by())
    shutil.rmtree(folder)
    shutil.move(tmp_path / "kept", folder)
    require_unchanged(previous, files.parent, decided_by())


def test_a_backbone_goes_on_from_a_head_on_photos_of_its_size(tmp_path):
    head, name = head_on(tmp_path, "efficientnetlite_b0_imagenet"), "efficientnetlite_b0_imagenet"
    require_same_side(head, name, 32)
    require_same_side(head, f"{name}@64", 48)  # They are resized.
    require_same_side(head_on(tmp_path), "nano", 48)  # Another encoder of photos learns on.
    told = rf"features of photos of 32 pixels, but .*image_size=48, .*--image-size 32, train the head on {name}@32 and"
    with pytest.raises(SettingsError, match=f"^previous_encoder={tmp_path} is a head on {told} .*, or {WITHOUT}"):
        require_same_side(head, name, 48)
