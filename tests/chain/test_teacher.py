"""A teacher through the chain: its features first, then an encoder that imitates them, then the objective."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.chain.chain import Chain
from courier_tf.features.sources import source
from courier_tf.pretrain import train, train_supervised
from courier_tf.pretrain.encoder_files import load_encoder
from courier_tf.pretrain.photo_store import PhotoStore
from courier_tf.settings import SettingsError, with_values
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.stages import FEATURES, INGEST, PRETRAIN, SUPERVISED

#: A chain of its own takes a minute; the loss itself has quick tests beside the objectives.
pytestmark = pytest.mark.slow

TEACHER = "pixels+colour"
BUDGET = {"supervised_steps": 60, "supervised_learning_rate": 5e-3, "checkpoint_every": 60}


def chain_in(folder, finished, **values) -> Chain:
    """A chain with the ingest of the finished one."""
    _, chain = finished
    folder.mkdir(exist_ok=True)
    if not (folder / "ingest").exists():
        (folder / "ingest").symlink_to(chain.directory(INGEST))
    given = {"teacher": TEACHER, "embedding_dim": 16, "objective": "base"}
    return Chain(folder, with_values(chain.settings, given | values))


def facts_of(chain, stage):
    return artefacts.read(chain.directory(stage), stage).facts


@pytest.fixture(scope="module")
def taught(finished, tmp_path_factory):
    chain = chain_in(tmp_path_factory.mktemp("taught"), finished, **BUDGET)
    chain.pretrain()
    return chain


def cosines_with_teacher(chain, directory):
    """Similarities of train-span photos by an encoder, and by the teacher's half-whitened features: [pairs] each."""
    ingest = chain.directory(INGEST)
    facts = artefacts.read(ingest, INGEST).facts
    items = records.read_items(ingest, facts.item_columns)
    photos = PhotoStore.of(items, facts.image_size).pixels[1:]
    photos = photos[items.in_train_span(facts.valid_from_seconds) & items.has_photo]
    parts = []
    for name in TEACHER.split("+"):
        vectors = source(name).vectors(tf.constant(photos)).numpy()
        left, singular, _ = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
        vectors = left * np.where(singular > 1e-3 * singular[0], np.sqrt(singular), 0)
        parts.append(vectors / np.sqrt(np.square(vectors).sum(axis=1).mean()))
    teacher = np.concatenate(parts, axis=1)
    teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
    embeddings = load_encoder(directory / "encoder")(photos, training=False).numpy()
    pairs = np.triu_indices(len(photos), 1)
    return (embeddings @ embeddings.T)[pairs], (teacher @ teacher.T)[pairs]


def test_the_encoder_sees_what_the_teacher_sees(taught, finished):
    found, expected = cosines_with_teacher(taught, taught.directory(SUPERVISED))
    by_columns, _ = cosines_with_teacher(taught, finished[1].directory(SUPERVISED))
    assert np.corrcoef(found, expected)[0, 1] > 0.5 > np.corrcoef(by_columns, expected)[0, 1] + 0.1


def test_the_stages_know_the_teacher(taught, finished):
    for name in ("pixels", "colour"):
        features = artefacts.read(taught.features_directory(name), FEATURES)
        assert features.facts.source == name and features.facts.views == 0
    supervised = artefacts.read(taught.directory(SUPERVISED), SUPERVISED)
    assert FEATURES in supervised.made_by.inputs
    assert supervised.facts.teacher == TEACHER and supervised.facts.columns is None
    assert 0.3 < supervised.facts.teacher_held_out["mean"] < 0.9
    pretrained = artefacts.read(taught.directory(PRETRAIN), PRETRAIN)
    assert pretrained.made_by.inputs[SUPERVISED] == supervised.fingerprint
    assert pretrained.facts.encoder == supervised.facts.encoder, "the objective begins there"
    assert pretrained.facts.teacher is None and pretrained.facts.features == ()
    of_columns = facts_of(finished[1], SUPERVISED)
    assert of_columns.columns and of_columns.teacher is None and of_columns.teacher_held_out is None


def test_the_teachers_score_is_that_of_its_frozen_features(taught, finished, tmp_path):
    values = {"teacher": None, "trainable": "head", "features": (TEACHER,), "backbone": "nano"}
    frozen = chain_in(tmp_path, finished, **values)
    frozen.pretrain()
    expected = facts_of(frozen, PRETRAIN).held_out
    found = facts_of(taught, SUPERVISED).teacher_held_out
    assert found == pytest.approx(expected, abs=1e-6)


def test_another_teacher_teaches_anew_and_another_objective_does_not(taught, finished, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    shutil.copytree(taught.workdir, tmp_path, symlinks=True, dirs_exist_ok=True)
    learned = []
    monkeypatch.setattr(
        train_supervised, "pretrain_supervised", lambda *arguments: learned.append(arguments[3].teacher)
    )
    monkeypatch.setattr(train, "pretrain", lambda *arguments: None)
    chain_in(tmp_path, finished, **BUDGET, temperature=0.5).pretrain()
    for stage in ("features pixels", "features colour", "supervised"):
        assert f"[{stage}] unchanged, skipped" in caplog.text
    assert learned == []
    for teacher in ("pixels", None):
        chain_in(tmp_path, finished, **BUDGET, teacher=teacher).pretrain()
    assert learned == ["pixels", None]


@pytest.mark.parametrize(
    ("values", "told"),
    [({"teacher": "pixel"}, "'pixel' is no feature source"), ({"trainable": "head"}, "Take --trainable all")],
)
def test_a_teacher_is_refused_before_anything_runs(values, told, finished, tmp_path):
    with pytest.raises(SettingsError, match=told):
        chain_in(tmp_path, finished, **values).run(str(finished[0]))
    assert not (tmp_path / "settings.json").exists()
