"""Heads on the features of frozen networks, through the chain: trained, chosen, embedded, continued."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from courier_tf.chain.chain import Chain
from courier_tf.features.files import FeatureFiles, read_together
from courier_tf.pretrain.encoder_files import EncoderError, load_encoder
from courier_tf.pretrain.frozen_encoder import FrozenEncoder
from courier_tf.pretrain.impression_scores import SCORES_FILE
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.notebook import save_to_workdir
from courier_tf.pretrain.objectives.courier import Courier
from courier_tf.pretrain.photo_store import PhotoStore
from courier_tf.pretrain.train_heads import CANDIDATES_FOLDER, _tell_the_gain
from courier_tf.settings import Settings, SettingsError, with_values
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.facts import EncoderFacts
from courier_tf.workdir.stages import EMBED, FEATURES, INGEST, PRETRAIN

CANDIDATES = ("pixels", "pixels+colour")


def settings_of(finished, **values) -> Settings:
    _, chain = finished
    heads = {
        "trainable": "head",
        "backbone": "nano",
        "features": CANDIDATES,
        "pretrain_steps": 6,
        "checkpoint_every": 3,
    }
    return with_values(chain.settings, heads | values)


def chain_in(folder, finished, **values) -> Chain:
    """A chain with the ingest of the finished one."""
    _, chain = finished
    folder.mkdir(exist_ok=True)
    if not (folder / "ingest").exists():
        (folder / "ingest").symlink_to(chain.directory(INGEST))
    return Chain(folder, settings_of(finished, **values))


@pytest.fixture(scope="module")
def heads(finished, tmp_path_factory):
    chain = chain_in(tmp_path_factory.mktemp("heads"), finished)
    chain.pretrain()
    chain.embed()
    return chain


def facts_of(chain):
    return artefacts.read(chain.directory(PRETRAIN), PRETRAIN).facts


@pytest.mark.slow
def test_the_best_candidate_on_valid_is_kept(heads, finished, tmp_path):
    facts = facts_of(heads)
    assert list(facts.candidates) == list(CANDIDATES)
    values = {name: scores["mean_new_to_user"] for name, scores in facts.candidates.items()}
    assert "+".join(facts.features) == max(values, key=values.get)
    assert facts.held_out == facts.candidates["+".join(facts.features)]
    assert values["pixels"] != values["pixels+colour"]
    # Each is what it would have been alone.
    for name in CANDIDATES:
        alone = chain_in(tmp_path / name, finished, features=(name,))
        alone.pretrain()
        assert facts_of(alone).held_out["mean_new_to_user"] == pytest.approx(values[name], abs=1e-6)
    assert not (heads.directory(PRETRAIN) / "candidates").exists()
    assert (heads.directory(PRETRAIN) / "logs" / "steps.csv").exists()


def test_features_and_photos_give_the_same_embeddings(heads):
    """The embed stage reads features; the served encoder, as FrozenEncoder here, decodes the photos."""
    ingest = heads.directory(INGEST)
    facts = artefacts.read(ingest, INGEST).facts
    store = PhotoStore.of(records.read_items(ingest, facts.item_columns), facts.image_size)
    encoder = FrozenEncoder(heads.directory(PRETRAIN) / "encoder", facts.image_size)
    expected = encoder.encode(tf.constant(store.pixels)).numpy()
    sources = [FeatureFiles(heads.features_directory(source)) for source in facts_of(heads).features]
    vectors = read_together(sources, store.ids)
    usable = store.has_photo
    np.testing.assert_allclose(encoder.encode_vectors(vectors).numpy()[usable], expected[usable], atol=1e-5)
    rows = pq.read_table(heads.directory(EMBED) / "items").to_pylist()
    assert len(rows) == len(store.ids) and {row["encoder"] for row in rows} == {facts_of(heads).encoder}
    for row in rows:
        number = store.numbers(np.array([row["item_id"].encode()], object))[0]
        assert (row["embedding"] is None) == (number == 0)
        if number:
            np.testing.assert_allclose(row["embedding"], expected[number], atol=1e-5)
    loaded = tf.saved_model.load(str(heads.directory(PRETRAIN) / "embedder"))
    encoded = [photo for photo in store.encoded if photo][:3]
    found = loaded.signatures["serving_default"](photos=tf.constant(encoded))["embedding"]
    np.testing.assert_allclose(found, expected[usable][:3], atol=1e-5)


def test_a_head_that_learns_nothing_is_told_beside_the_features_it_started_from(heads, finished, tmp_path, caplog):
    """What stands before training is what the objective base leaves: the features as they are."""
    base = chain_in(tmp_path, finished, objective="base", features=("pixels",))
    base.pretrain()
    expected = facts_of(base).held_out
    assert facts_of(base).held_out_before is None and "held-out score" not in tell(caplog, "WARNING")
    still = Chain(tmp_path, with_values(base.settings, {"objective": "courier", "pretrain_learning_rate": 1e-12}))
    still.pretrain()
    found = facts_of(still)
    assert found.held_out_before == pytest.approx(expected) and found.held_out["mean"] == found.held_out_before["mean"]
    score = f"{100 * expected['mean_new_to_user']:.2f}"
    warning = tell(caplog, "WARNING")
    assert f"courier has not improved on what it started from: held-out score {score} on valid" in warning
    assert f"the features as they are have {score}; `--objective base` keeps" in warning
    # The best of several candidates is told beside its own features.
    facts = facts_of(heads)
    assert facts.held_out_before != facts.held_out and 0 < facts.held_out_before["mean"] < 1


def tell(caplog, level):
    """What was logged at a level."""
    return "\n".join(record.getMessage() for record in caplog.records if record.levelname == level)


@pytest.mark.parametrize("before, after, level", [(0.5, 0.6, "INFO"), (0.6, 0.5, "WARNING"), (0.5, 0.5, "WARNING")])
def test_the_level_tells_whether_a_head_has_improved(before, after, level, caplog):
    caplog.set_level("INFO")
    scores = [{"mean": value, "mean_new_to_user": None} for value in (before, after)]
    facts = EncoderFacts("abc", 2, 16, 1000, held_out=scores[1], held_out_before=scores[0])
    _tell_the_gain(facts, "mil_nce", Path("previous"))
    told = f"held-out score {100 * after:.2f} on valid, the previous encoder has {100 * before:.2f}"
    assert told in tell(caplog, level) and "--objective" not in caplog.text
    caplog.clear()
    nothing = dataclasses.replace(facts, held_out_before={"mean": None, "mean_new_to_user": None})
    _tell_the_gain(nothing, "mil_nce", None)
    _tell_the_gain(dataclasses.replace(facts, held_out_before=None), "mil_nce", None)
    assert not caplog.text, "no candidate of valid has a history, or nothing was trained"


@pytest.mark.slow
def test_features_are_computed_once(heads, finished, caplog):
    caplog.set_level("INFO")
    before = artefacts.read(heads.features_directory("pixels"), FEATURES)
    heads.pretrain()
    heads.embed()
    skipped = ("features pixels", "features colour", "pretrain", "embed")
    assert all(f"[{stage}] unchanged, skipped" in caplog.text for stage in skipped)
    other = Chain(heads.workdir, settings_of(finished, temperature=0.5, head="mlp", embedding_dim=8))
    other.pretrain()
    assert artefacts.read(heads.features_directory("pixels"), FEATURES) == before
    assert facts_of(other).embedding_dim == 8
    Chain(heads.workdir, settings_of(finished)).pretrain()
    heads.embed()


@pytest.mark.slow
def test_an_interrupted_choice_goes_on(heads, finished, tmp_path, monkeypatch):
    from courier_tf.pretrain import train, train_heads

    chain, written = chain_in(tmp_path, finished), []
    write = train_heads.write_encoder

    def ends_at_the_second(*arguments):
        written.append(arguments)
        if len(written) == 2:
            raise KeyboardInterrupt
        return write(*arguments)

    monkeypatch.setattr(train_heads, "write_encoder", ends_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        chain.pretrain()
    steps = []
    learn = train.fit
    monkeypatch.setattr(train_heads, "write_encoder", write)
    monkeypatch.setattr(train, "fit", lambda *arguments: steps.append(learn(*arguments)) or steps[-1])
    chain.pretrain()
    assert [int(model.steps.numpy()) for model in steps] == [6, 6] and steps[0].history is None, "nothing is left to do"
    assert facts_of(chain) == facts_of(heads)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["logs", "candidates"])  # Encoder and scores are in place by then; all is.
def test_a_choice_that_was_killed_at_its_end_goes_on(part, heads, finished, tmp_path, monkeypatch):
    from courier_tf.pretrain import fit

    chain, steps, rename = chain_in(tmp_path, finished), [], Path.rename

    def killed(path, target):
        if path.name == part and CANDIDATES_FOLDER in path.parts:
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        chain.pretrain()
    partial = artefacts.partial_of(chain.directory(PRETRAIN))
    assert (partial / SCORES_FILE).exists() and (partial / "encoder").exists()
    monkeypatch.setattr(fit, "Throughput", lambda: steps.append("trains"))
    chain.pretrain()
    assert not steps and facts_of(chain) == facts_of(heads)
    logs = chain.directory(PRETRAIN) / "logs" / "steps.csv"
    assert len(logs.read_text().splitlines()) == 3, "a heading and two epochs"
    assert not list(chain.directory(PRETRAIN).glob("candidates")) + list(chain.directory(PRETRAIN).glob("removed"))


@pytest.mark.slow
def test_an_encoder_that_stays_the_same_keeps_its_fingerprint(heads, finished, tmp_path):
    again = chain_in(tmp_path, finished)
    again.pretrain()
    assert facts_of(again) == facts_of(heads)


@pytest.mark.slow
def test_heads_start_from_a_previous_one(heads, finished, tmp_path):
    previous = tmp_path / "previous"
    shutil.copytree(heads.directory(PRETRAIN), previous)
    chain = chain_in(tmp_path / "next", finished, objective="base", previous_encoder=str(previous))
    chain.pretrain()
    assert facts_of(chain).encoder == facts_of(heads).encoder
    assert facts_of(chain).features == facts_of(heads).features
    of_photos = chain_in(tmp_path / "photos", finished, previous_encoder=str(finished[1].directory(PRETRAIN)))
    with pytest.raises(SettingsError, match="takes photos"):
        of_photos.pretrain()
    of_others = chain_in(tmp_path / "others", finished, features=("colour",), previous_encoder=str(previous))
    with pytest.raises(SettingsError, match="^features=colour, but previous_encoder=.* can go on with these alone"):
        of_others.pretrain()
    content = json.loads((previous / artefacts.ARTEFACT_FILE).read_text())
    content["facts"]["image_size"] = 64
    (previous / artefacts.ARTEFACT_FILE).write_text(json.dumps(content))
    values = {"trainable": "all", "backbone": "efficientnetlite_b0", "previous_encoder": str(previous)}
    of_other_photos = chain_in(tmp_path / "sizes", finished, **values)
    with pytest.raises(SettingsError, match="photos of 64 pixels, but the ingest of this run has image_size=32"):
        of_other_photos.pretrain()


@pytest.mark.parametrize(
    "objective",
    [
        "simclr",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("simcse", "base", "simsiam", "mil_nce", "clip", "supervised")
        ),
    ],
)
def test_every_objective_learns_a_head(objective, finished, tmp_path):
    chain = chain_in(tmp_path, finished, objective=objective, features=("pixels",), pretrain_steps=2)
    chain.pretrain()
    views = artefacts.read(chain.features_directory("pixels"), FEATURES).facts.views
    assert (views > 0) == (objective in ("simclr", "simsiam", "supervised"))
    assert 0.3 < facts_of(chain).held_out["mean"] < 0.9


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"features": ("pixel",)}, "'pixel' is no feature source"),
        ({"backbone": "tiny"}, "backbone=tiny has to learn.*--trainable all"),
        ({"init": __file__}, "init=.*test_heads.py gives a backbone weights.*--trainable all"),
        ({"features": ()}, "features must name a candidate"),
        ({"trainable": "heads"}, "trainable must be all, head or last_N"),
    ],
)
def test_unknown_names_are_refused_before_anything_runs(values, told, finished, tmp_path):
    with pytest.raises(SettingsError, match=told):
        chain_in(tmp_path, finished, **values).run(str(finished[0]))
    assert not (tmp_path / "settings.json").exists()


def test_a_head_from_a_notebook_goes_into_the_chain(heads, finished, tmp_path):
    chain = chain_in(tmp_path, finished)
    model = CourierModel(load_encoder(heads.directory(PRETRAIN) / "encoder"), Courier(temperature=0.2))
    with pytest.raises(EncoderError, match="has no features pixels.*--trainable head"):
        save_to_workdir(model, tmp_path)
    (tmp_path / "features").symlink_to(heads.directory(FEATURES))
    facts = save_to_workdir(model, tmp_path)
    assert facts.features == facts_of(heads).features
    assert facts.held_out["mean"] == pytest.approx(facts_of(heads).held_out["mean"], abs=1e-6)
    chain.embed()  # From the photos: the workdir does not say which features the notebook had.
    rows = [pq.read_table(c.directory(EMBED) / "items").sort_by("item_id").to_pylist() for c in (chain, heads)]
    for row, other in zip(*rows, strict=True):
        assert row["item_id"] == other["item_id"]
        if row["embedding"]:
            np.testing.assert_allclose(row["embedding"], other["embedding"], atol=1e-5)


@pytest.mark.parametrize("file", ["artefact.json", "items/features-00000-of-00002.parquet"])
def test_damaged_features_are_made_again_alone(file, heads, finished, tmp_path, caplog):
    caplog.set_level("INFO")
    chain = chain_in(tmp_path, finished)
    shutil.copytree(heads.directory(FEATURES), tmp_path / "features")
    shutil.copytree(heads.directory(PRETRAIN), tmp_path / "pretrain")
    damaged = chain.features_directory("colour") / file
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(artefacts.ArtefactError):
        artefacts.read(chain.features_directory("colour"), FEATURES)
    chain.pretrain()
    assert "[features pixels] unchanged, skipped" in caplog.text and "[features colour] is made again" in caplog.text
    assert "[pretrain] unchanged, skipped" in caplog.text, "the bytes are the same"


@pytest.mark.slow
def test_a_saved_model_that_changes_in_its_place_gives_new_features(finished, tmp_path):
    model = tf.Module()
    model.factor = tf.Variable(1.0)
    spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name="photos")
    means = tf.function(
        lambda photos: {"features": model.factor * tf.reduce_mean(tf.cast(photos, tf.float32) ** 2, axis=[1, 2])},
        input_signature=[spec],
    )
    chain = chain_in(tmp_path / "work", finished, features=(str(tmp_path / "model"),), objective="base")
    found = []
    for factor in (1.0, 2.0):
        model.factor.assign(factor)
        tf.saved_model.save(model, str(tmp_path / "model"), signatures={"serving_default": means})
        chain.pretrain()
        files = FeatureFiles(chain.features_directory(str(tmp_path / "model"))).files
        found.append(pq.read_table(files[0])["vector"].drop_null().to_pylist())
        if factor == 1:
            shutil.copytree(chain.directory(PRETRAIN), tmp_path / "previous")
    np.testing.assert_allclose(np.array(found[1]), 2 * np.array(found[0]), rtol=1e-5)
    going_on = Chain(chain.workdir, with_values(chain.settings, {"previous_encoder": str(tmp_path / "previous")}))
    with pytest.raises(SettingsError, match="previous_encoder=.*/model has changed in its place"):
        going_on.pretrain()
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(SettingsError, match="previous_encoder=.*/model', which cannot be had any more"):
        Chain(chain.workdir, with_values(going_on.settings, {"features": ("auto",)})).pretrain()
