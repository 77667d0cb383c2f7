"""What `model.fit` trained enters the chain."""

import dataclasses
import json
import logging

import numpy as np
import pandas as pd
import pytest
from tensorflow import keras

from courier_tf.chain.chain import Chain
from courier_tf.commands import program
from courier_tf.commands.predict import predict
from courier_tf.commands.similar import similar
from courier_tf.pretrain.data import page_view_batches
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.encoder_files import EncoderError, load_encoder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.notebook import save_to_workdir
from courier_tf.pretrain.score import embed_photos
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.workdir import artefacts
from courier_tf.workdir.artefacts import ARTEFACT_FILE, ArtefactError
from courier_tf.workdir.stages import PRETRAIN
from tests.chain.conftest import finished, tiny  # noqa: F401
from tests.sealing import seal_description


@pytest.fixture
def chain(finished, tmp_path):  # noqa: F811
    """A chain that has nothing but its ingest."""
    _, whole = finished
    (tmp_path / "ingest").symlink_to(whole.directory("ingest"))
    made = Chain(tmp_path, tiny())
    made.write_settings()
    return made


def model_with_embeddings(width):
    model = CourierModel(Encoder("micro", embedding_dim=width))
    model.compile(keras.optimizers.legacy.Adam(1e-3))
    return model


@pytest.mark.slow
def test_what_fit_trained_goes_through_the_chain(chain, caplog):
    data = TrainingData.read(chain.directory("ingest"))
    batches = page_view_batches(data.ingest, data.store, history_length=5, page_view_size=5, batch_rows=16, seed=0)
    model = model_with_embeddings(16)
    model.fit(batches, steps_per_epoch=2, verbose=0)
    facts = save_to_workdir(model, chain.workdir)
    assert facts.embedding_dim == 16 and 0 < facts.held_out["reconstruction_new_to_user"] < 1

    # The width differs from the settings: pre-training would have another.
    with caplog.at_level(logging.INFO):
        chain.pretrain()
    assert "which comes from a notebook (--force pretrain trains one)" in caplog.text
    assert not chain.directory("supervised").exists()
    pixels = data.store.decoded(np.arange(1, 9))
    saved = load_encoder(chain.directory("pretrain") / "encoder")
    np.testing.assert_allclose(embed_photos(saved, pixels), embed_photos(model.encoder, pixels), atol=1e-6)

    chain.embed()
    rows = pd.concat(map(pd.read_parquet, sorted((chain.directory("embed") / "items").glob("*"))))
    row = rows[rows["embedding"].notna()].iloc[0]
    number = data.store.numbers(np.array([row["item_id"].encode()], object))
    expected = embed_photos(model.encoder, data.store.decoded(number))[0]
    np.testing.assert_allclose(row["embedding"], expected, atol=1e-5)

    for command in ("cluster", "rank", "export"):
        program.main([command, "--workdir", str(chain.workdir)])
    assert set(chain.report()["held_out"]) == {"pretrain"}
    items = data.items.ids[:3].astype(str).tolist()
    assert predict(chain.workdir, "u1", items[:2], items[2:]).shape == (2,)
    assert len(similar(chain.workdir, (row["item_id"],), 3)[row["item_id"]]) == 3


@pytest.mark.slow
def test_another_ingest_does_not_fit(chain):
    save_to_workdir(model_with_embeddings(8), chain.workdir)
    file = chain.directory("pretrain") / ARTEFACT_FILE
    content = json.loads(file.read_text())
    content["made_by"]["inputs"]["ingest"] = "of yesterday"
    file.write_text(json.dumps(content))
    seal_description(file.parent)
    for stage in (chain.embed, chain.pretrain):
        with pytest.raises(ArtefactError, match="made from ingest of yesterday, .* It comes from a notebook: save"):
            stage()


@pytest.mark.slow
def test_a_damaged_encoder_is_refused_and_replaced_by_force(finished, chain):  # noqa: F811
    save_to_workdir(model_with_embeddings(8), chain.workdir)
    file = chain.directory("pretrain") / "encoder" / "encoder.json"
    file.write_text(file.read_text().replace("micro", "macro"))
    with pytest.raises(ArtefactError, match="is damaged: .*encoder.json.* It comes from a notebook: save"):
        chain.pretrain()
    (chain.workdir / "supervised").symlink_to(finished[1].directory("supervised"))
    dataclasses.replace(chain, force=frozenset({"pretrain"})).pretrain()
    assert not artefacts.comes_from_notebook(chain.directory("pretrain"))
    assert artefacts.read(chain.directory("pretrain"), PRETRAIN).facts.embedding_dim == 32


def test_what_cannot_be_taken_is_refused(chain, tmp_path):
    with pytest.raises(ArtefactError, match="Run 'courier ingest' first"):
        save_to_workdir(model_with_embeddings(8), tmp_path / "empty")
    model = model_with_embeddings(8)
    model.encoder.head.bias.assign(model.encoder.head.bias * np.nan)
    with pytest.raises(EncoderError, match="not finite"):
        save_to_workdir(model, chain.workdir)
    with pytest.raises(ArtefactError):
        artefacts.read(chain.directory("pretrain"), PRETRAIN)
