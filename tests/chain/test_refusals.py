"""What does not fit is refused, and nothing that comes after the train span is known to what is trained."""

import dataclasses
import json
import shutil
import subprocess
from types import SimpleNamespace

import kagglehub
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

from courier_tf.chain.chain import Chain
from courier_tf.commands.similar import similar
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.versions import newest_version
from courier_tf.pretrain.train import pretrain
from courier_tf.ranking.comparison import measure
from courier_tf.ranking.data import RankingError
from courier_tf.settings import SettingsError, with_values
from courier_tf.training import TrainingError
from courier_tf.workdir import artefacts
from courier_tf.workdir.facts import IngestFacts, RankFacts
from courier_tf.workdir.leakage import LeakageError
from courier_tf.workdir.matching import require_input
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.records import Items, read_items
from courier_tf.workdir.stages import CLUSTER, INGEST, PRETRAIN
from serving.bundle.graph_model import GraphModel
from tests.chain.conftest import tiny
from tests.chain.encoder_files import weights
from tests.sealing import seal_again, seal_description
from tests.stage_facts import example


@pytest.mark.slow
def test_a_later_photo_changes_neither_encoder_nor_centroids(finished, tmp_path):
    """Trained weights and centroids know nothing of items that come after the train span."""
    shop, chain = finished
    facts = artefacts.read(chain.directory(INGEST), INGEST).facts
    items = pd.read_csv(shop / "items.csv")
    late = items[(items["available_from"] >= facts.valid_from_seconds) & ~items["image"].str.endswith("webp")]
    assert len(late) > 2
    copy = tmp_path / "shop"
    subprocess.run(["cp", "-r", str(shop), str(copy)], check=True)
    for image in late["image"]:
        Image.new("RGB", (32, 32), "red").save(copy / image)
    other = Chain(tmp_path / "work", chain.settings)
    other.ingest(str(copy))
    assert (
        artefacts.read(other.directory(INGEST), INGEST).fingerprint
        != artefacts.read(chain.directory(INGEST), INGEST).fingerprint
    )
    for stage in ("pretrain", "embed", "cluster"):
        getattr(other, stage)()
    for file in ("supervised/encoder", "pretrain/encoder"):
        first, second = (c.workdir / file / "encoder.weights.h5" for c in (chain, other))
        assert weights(first) == weights(second)
    centroids = [np.load(c.directory("cluster") / "codebook.npy") for c in (chain, other)]
    np.testing.assert_array_equal(*centroids)


def test_other_results_are_refused(finished, tmp_path):
    _, chain = finished
    (tmp_path / "ingest").symlink_to(chain.directory("ingest"))
    with pytest.raises(artefacts.ArtefactError, match="holds no finished result of the stage 'embed'"):
        Chain(tmp_path, chain.settings).cluster()
    made_by = artefacts.read(chain.directory(CLUSTER), CLUSTER)
    with pytest.raises(artefacts.ArtefactError, match="was made from embed"):
        require_input(made_by, "embed", "0123")
    with pytest.raises(artefacts.ArtefactError, match="was made by the stage 'rank'"):
        artefacts.read(chain.directory("rank"), CLUSTER)


@pytest.mark.parametrize(
    "stage, options",
    [
        ("pretrain", {"init": "weights.pth"}),
        ("pretrain", {"previous": "earlier"}),
        ("pretrain", {"previous_encoder": "earlier/pretrain"}),
        ("cluster", {"algorithm": "incremental", "previous_clusters": "earlier/cluster"}),
        ("rank", {"previous_rankers": "earlier/rank"}),
    ],
)
def test_what_is_not_there_to_start_from_is_told_first_of_all(finished, tmp_path, stage, options):
    shop, chain = finished
    other = Chain(tmp_path, with_values(chain.settings, options))
    option, place = list(options.items())[-1]
    with pytest.raises(SettingsError, match=f"{option}={place} does not exist"):
        other.run(str(shop))
    assert not other.directory("ingest").exists()
    for made in ("ingest", "supervised", "pretrain", "embed", "cluster"):
        (tmp_path / made).symlink_to(chain.directory(made))
    with pytest.raises(SettingsError, match=f"{option}={place} does not exist"):
        getattr(other, stage)()


def test_a_directory_is_no_file_of_foreign_weights(finished, tmp_path):
    _, chain = finished
    settings = with_values(chain.settings, {"init": str(chain.directory(PRETRAIN))})
    with pytest.raises(SettingsError, match="is a directory, but takes a file .* by previous_encoder"):
        Chain(tmp_path, settings).pretrain()


def test_an_earlier_run_that_lacks_a_stage_says_how_to_do_without(finished, tmp_path):
    _, chain = finished
    (tmp_path / "earlier" / "pretrain").mkdir(parents=True)
    settings = with_values(chain.settings, {"previous": str(tmp_path / "earlier"), "previous_rankers": "none"})
    with pytest.raises(SettingsError, match=r"earlier/cluster does not exist \(to start without it: .*clusters=none\)"):
        Chain(tmp_path, settings).run("raw")


def test_a_stage_refuses_what_comes_from_another_ingest(finished, tmp_path):
    """Centroids of a later train span would know the future of an earlier one."""
    shop, chain = finished
    settings = dataclasses.replace(chain.settings, ingest=dataclasses.replace(chain.settings.ingest, history_kept=30))
    other = Chain(tmp_path, settings)
    other.ingest(str(shop))
    for stage in ("supervised", "pretrain", "embed", "cluster", "rank"):
        (tmp_path / stage).symlink_to(chain.directory(stage))
    for stage in ("embed", "cluster", "rank", "export", "report"):
        with pytest.raises(artefacts.ArtefactError, match="was made from ingest"):
            getattr(other, stage)()
    with pytest.raises(artefacts.ArtefactError, match="was made from ingest"):
        similar(tmp_path, ["i1"], 3)


@pytest.mark.slow
def test_what_is_exported_is_what_was_trained(finished, tmp_path):
    """Mode and history length are the rank stage's own, whatever the settings say now; codebook and ranker agree."""
    _, chain = finished
    rank = dataclasses.replace(chain.settings.rank, rank_history_length=1, rank_modes=("none",))
    other = Chain(tmp_path, dataclasses.replace(chain.settings, rank=rank))
    for stage in ("ingest", "supervised", "pretrain", "embed", "cluster", "rank"):
        (tmp_path / stage).symlink_to(chain.directory(stage))
    other.export()
    version = newest_version(tmp_path / "models" / "ctr_ranker")
    ids = read_items(chain.directory("ingest"), []).ids
    asked = {"user_id": [b"u1"], "history_item_ids": np.array([list(ids[:9])], object), "item_id": [ids[40]]}
    expected = GraphModel(newest_version(chain.workdir / "models" / "ctr_ranker"))(**asked)["probability"]
    np.testing.assert_allclose(GraphModel(version)(**asked)["probability"], expected, atol=1e-6)
    (tmp_path / "cluster").unlink()
    other = Chain(tmp_path, dataclasses.replace(chain.settings, seed=9))
    other.cluster()
    for what in (other.export, other.report):
        with pytest.raises(artefacts.ArtefactError, match="was made from cluster"):
            what()


@pytest.mark.parametrize("kept, asked, length", [(5, 20, 5), (20, 5, 5)])
def test_a_served_history_is_no_longer_than_those_of_training(kept, asked, length):
    ingest, rank = (
        SimpleNamespace(facts=example(IngestFacts, history_kept=kept)),
        SimpleNamespace(facts=example(RankFacts, history_length=asked)),
    )
    assert FinishedStages(ingest, None, None, None, rank).history_length == length


def test_scores_of_one_encoder_do_not_stand_beside_rankers_of_another(finished, tmp_path):
    _, chain = finished
    for stage in ("ingest", "supervised", "cluster", "rank"):
        (tmp_path / stage).symlink_to(chain.directory(stage))
    shutil.copytree(chain.directory("pretrain"), tmp_path / "pretrain")
    file = tmp_path / "pretrain" / artefacts.ARTEFACT_FILE
    content = json.loads(file.read_text())
    content["facts"]["encoder"] = "another"
    file.write_text(json.dumps(content))
    seal_description(file.parent)
    with pytest.raises(
        artefacts.ArtefactError, match="cluster belongs to the encoder .*, but .*pretrain holds another"
    ):
        Chain(tmp_path, chain.settings).report()


@pytest.mark.parametrize("split", ["valid", "test"])
def test_a_history_that_holds_the_future_is_refused_before_training_and_on_test(finished, tmp_path, split):
    """One impression is added, whose history holds its own candidate."""
    _, chain = finished
    other = Chain(tmp_path / "workdir", dataclasses.replace(chain.settings, seed=9))
    other.workdir.mkdir()
    ingest, supervised, ranked = other.directory("ingest"), chain.directory("supervised"), chain.directory("rank")
    shutil.copytree(chain.directory("ingest"), ingest)
    file = ingest / "impressions" / f"{split}-00000-of-00002.tfrecord"
    impressions = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    example = tf.train.Example.FromString(impressions[0])
    item = example.features.feature["item_id"].bytes_list.value[0]
    example.features.feature["user_id"].bytes_list.value[0] = b"somebody new"
    example.features.feature["history_item_ids"].bytes_list.value[:] = [item]
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in [*impressions, example.SerializeToString()]:
            writer.write(record)
    seal_again(ingest, keep_fingerprint=True)
    for stage in ("supervised", "pretrain", "embed", "cluster"):
        (other.workdir / stage).symlink_to(chain.directory(stage))

    def encoder():  # It learns nothing from valid, but is chosen there.
        pretrain(ingest, supervised, tmp_path / "out", other.settings.pretrain, 9, MadeBy("pretrain", {}, {}))

    readers = (
        [other.rank, encoder] if split == "valid" else [lambda: measure(ingest, ranked, chain.settings.rank, split)]
    )
    for reader in readers:
        with pytest.raises(LeakageError, match=f"split {split}.*somebody new had clicked it before: 1 > 0"):
            reader()


def test_a_page_view_that_holds_the_future_is_refused_before_pre_training(finished, tmp_path):
    _, chain = finished
    other = Chain(tmp_path, dataclasses.replace(chain.settings, seed=9))
    shutil.copytree(chain.directory("ingest"), other.directory("ingest"))
    file = next((other.directory("ingest") / "page_views").glob("train-00000-*"))
    page_views = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    example = tf.train.Example.FromString(page_views[0])
    shown = example.features.feature["page_view_item_ids"].bytes_list.value[:]
    example.features.feature["user_id"].bytes_list.value[0] = b"somebody new"
    example.features.feature["history_item_ids"].bytes_list.value[:] = shown
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in [*page_views, example.SerializeToString()]:
            writer.write(record)
    seal_again(other.directory("ingest"))
    made_by, out = MadeBy("pretrain", {}, {}), tmp_path / "out"
    with pytest.raises(LeakageError, match=r"page_views, split train.*somebody new had clicked it before: 1 > 0"):
        pretrain(
            other.directory("ingest"),
            chain.directory("supervised"),
            tmp_path / "out",
            other.settings.pretrain,
            9,
            made_by,
        )
    assert not out.exists()


def test_a_log_too_small_for_a_batch_is_told_so(finished, tmp_path):
    shop, chain = finished
    pretrain = dataclasses.replace(chain.settings.pretrain, pretrain_batch_rows=10_000)
    rank = dataclasses.replace(chain.settings.rank, rank_batch_size=100_000)
    other = Chain(tmp_path, dataclasses.replace(chain.settings, pretrain=pretrain, rank=rank))
    for stage in ("ingest", "supervised", "embed", "cluster"):
        (tmp_path / stage).symlink_to(chain.directory(stage))
    with pytest.raises(TrainingError, match="page views with a click and a history, fewer than pretrain_batch_rows"):
        other.pretrain()
    with pytest.raises(RankingError, match="impressions, fewer than rank_batch_size=100000"):
        other.rank()


def test_a_day_without_photos_is_told_so(finished, tmp_path, monkeypatch):
    _, chain = finished
    own = dataclasses.replace(chain.settings.pretrain, temperature=0.3)
    other = Chain(tmp_path, dataclasses.replace(chain.settings, pretrain=own))
    for stage in ("ingest", "supervised"):
        (tmp_path / stage).symlink_to(chain.directory(stage))
    monkeypatch.setattr(Items, "has_photo", property(lambda items: np.zeros(len(items.ids), bool)))
    with pytest.raises(TrainingError, match="of the items of the train span 0 have a photo"):
        other.pretrain()


@pytest.mark.parametrize(
    "pretrain",
    [
        {"backbone": "efficientnetv2_b0_imagenet"},
        {"trainable": "head", "backbone": "nano", "features": ("pixels+efficientnetv2_b0_imagenet:stages",)},
        {"teacher": "efficientnetv2_b0_imagenet"},
    ],
)
def test_weights_that_cannot_be_fetched_are_refused_before_ingest(tmp_path, monkeypatch, pretrain):
    """Unless pre-training has been finished, or starts elsewhere: then nothing asks for them."""

    def offline(handle, file):
        raise OSError("no route to host")

    monkeypatch.setattr(kagglehub, "model_download", offline)
    settings = dataclasses.replace(tiny(), pretrain=dataclasses.replace(tiny().pretrain, **pretrain))
    chain = Chain(tmp_path / "work", settings)
    asked = []
    monkeypatch.setattr(Chain, "ingest", lambda self, raw: asked.append(raw))
    monkeypatch.setattr(Chain, "pretrain", lambda self: 1 / 0)
    with pytest.raises(SettingsError, match="backbone=efficientnetv2_b0_imagenet needs .*no route to host"):
        chain.run("raw")
    assert not asked
    chain.directory(PRETRAIN).mkdir()
    with pytest.raises(ZeroDivisionError):
        chain.run("raw")
    assert asked == ["raw"]
