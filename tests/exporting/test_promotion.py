"""Promotion: every reason against it, seen from outside; roll back, and what they leave alone."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from courier_tf import schema
from courier_tf.exporting import promotion_checks
from courier_tf.exporting.ctr_ranker import CtrRanker
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.promotion import promote, roll_back, withdraw
from courier_tf.exporting.promotion_checks import PromotionError
from courier_tf.exporting.versions import newest_version, newest_versions
from courier_tf.settings import PromotionSettings
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.stages import CLUSTER, PRETRAIN
from serving.bundle import warmup
from serving.bundle.configuration import read_models_config
from serving.bundle.graph_model import GraphModel
from serving.bundle.releases import Release, ReleaseError, Releases
from serving.bundle.stock_ops import require_stock_ops
from serving.client import contract
from tests.served_shop import export_again, write_rank

LENIENT = PromotionSettings(auc_tolerance=1.0, calibration_tolerance=100.0)


def promoted(workdir, tolerances=LENIENT):
    return promote(workdir, tolerances)


def refusal(workdir, tolerances=LENIENT):
    """The message of the refusal; nothing may have changed."""
    before = (workdir / "serving" / "models.config").read_text()
    with pytest.raises(PromotionError) as refused:
        promoted(workdir, tolerances)
    assert (workdir / "serving" / "models.config").read_text() == before
    return str(refused.value)


def seal_again(version):
    """Makes the files of a version pass for those that were exported."""
    file = version / artefacts.ARTEFACT_FILE
    content = json.loads(file.read_text()) | {"fingerprint": artefacts.fingerprint_of_tree(version)}
    file.write_text(json.dumps(content))


def labels(workdir):
    config = read_models_config(workdir / "serving" / "models.config", workdir / "models")
    return {model.name: dict(model.version_labels) for model in config.model_config_list.config}


def test_promote_a_second_version_and_roll_back(workdir, caplog):
    caplog.set_level("INFO")
    first = promoted(workdir)
    assert labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 1}
    batch = [records.parse(tf.constant([record]), schema.IMPRESSION_FEATURES) for record in impressions(workdir)]
    clicked = np.array([int(row["clicked"][0]) for row in batch])
    served = GraphModel(workdir / "models" / "ctr_ranker" / "1")
    score = [
        served(
            user_id=row["user_id"].numpy(),
            history_item_ids=row["history_item_ids"].to_tensor(shape=[1, None]).numpy(),
            item_id=row["item_id"].numpy(),
        )["probability"][0]
        for row in batch
    ]
    assert first.measured["ctr_ranker"]["auc"] == pytest.approx(roc_auc_score(clicked, score), abs=1e-4)
    assert first.measured["ctr_ranker"]["calibration"] == pytest.approx(np.mean(score) / clicked.mean(), rel=1e-4)
    write_rank(workdir, seed=2)
    assert [path.name for path in export_again(workdir)] == ["2"]  # Of the ranker alone.
    assert labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 2}
    second = promoted(workdir)
    assert (
        second.measured["ctr_ranker"]["stable_auc"] == first.measured["ctr_ranker"]["auc"]
        and second.versions["ctr_ranker"] == 2
    )
    assert labels(workdir) == {
        model: dict.fromkeys(("stable", "canary"), second.versions[model]) for model in labels(workdir)
    }
    assert roll_back(workdir) == first and labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 1}
    assert newest_versions(workdir / "models", ["ctr_ranker"])["ctr_ranker"] == 2  # Its files stay.
    with pytest.raises(ReleaseError, match="no release before"):
        roll_back(workdir)
    assert "version 1 is stable (labels: stable 1, canary 1)" in caplog.text


def test_a_canary_is_withdrawn(workdir):
    """One that keeps a server from coming up, say: what is stable stands in for it."""
    with pytest.raises(ReleaseError, match="no canary beside"):
        withdraw(workdir)
    promoted(workdir)
    with pytest.raises(ReleaseError, match="no canary beside"):
        withdraw(workdir)
    write_rank(workdir, seed=2)
    export_again(workdir)
    assert labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 2}
    assert withdraw(workdir).versions["ctr_ranker"] == 1
    assert labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 1}
    with pytest.raises(ReleaseError, match=r"{'ctr_ranker': 2} were rolled back or withdrawn"):
        promoted(workdir)
    write_rank(workdir, seed=3)
    export_again(workdir)
    assert labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 3}
    promoted(workdir)
    assert labels(workdir)["ctr_ranker"] == {"stable": 3, "canary": 3}


def test_each_withdrawn_version_is_refused_whatever_stands_beside_it():
    releases = Releases().promote(Release({"a": 1, "b": 1}, "")).promote(Release({"a": 2, "b": 2}, "")).roll_back()
    assert releases.refused("a") == releases.refused("b") == {2} and releases.refused("c") == set()
    again = releases.promote(Release({"a": 3, "b": 2}, ""))
    assert again.refused("a") == {2} and again.refused("b") == set()


def impressions(workdir):
    file = records.files(workdir / "ingest" / schema.IMPRESSIONS_FOLDER, "valid")
    return list(tf.data.TFRecordDataset(file).as_numpy_iterator())


def test_a_worse_version_is_refused(workdir, monkeypatch):
    promoted(workdir)
    write_rank(workdir, seed=2)
    export_again(workdir)
    quality = {"impressions": 300, "auc": 0.7, "calibration": 1.0, "calibration_error": 0.0}
    figures = iter([{**quality, "auc": 0.69, "calibration_error": 0.2, "calibration": 1.22}, quality] * 2)
    monkeypatch.setattr(CtrRanker, "quality", lambda *_: dict(next(figures)))
    message = refusal(workdir, PromotionSettings())
    assert "AUC 0.6900, but the stable version has 0.7000" in message
    assert "calibration 1.220, but the stable version has 1.000" in message
    promoted(workdir, PromotionSettings(auc_tolerance=0.02, calibration_tolerance=0.3))


def test_every_version_is_measured_on_whole_histories(workdir):
    """As clients send them: each cuts them by itself, however long those of the newest are."""
    stages = FinishedStages.read(workdir)
    served = GraphModel(newest_version(workdir / "models" / contract.CTR_RANKER))
    rows = [records.parse(tf.constant([record]), schema.IMPRESSION_FEATURES) for record in impressions(workdir)]
    scores = [
        served(
            user_id=row["user_id"].numpy(),
            history_item_ids=row["history_item_ids"].to_tensor("").numpy(),
            item_id=row["item_id"].numpy(),
        )["probability"][0]
        for row in rows
    ]
    expected = roc_auc_score([int(row["clicked"][0]) for row in rows], scores)
    assert CtrRanker().quality(served, stages)["auc"] == pytest.approx(expected, abs=1e-6)
    shorter = dataclasses.replace(stages.rank, facts=dataclasses.replace(stages.rank.facts, history_length=1))
    assert stages._replace(rank=shorter).history_length == 1
    assert CtrRanker().quality(served, stages._replace(rank=shorter))["auc"] == pytest.approx(expected, abs=1e-6)


def test_answers_that_are_not_the_trained_models(workdir):
    """The rank stage was run again, the export was not; then weights that do not belong to what was measured."""
    write_rank(workdir, seed=2)
    message = refusal(workdir)
    assert "the ranker's pairs are served with a difference of" in message and "rank are served" in message
    assert "belongs to the rank" in message and "run 'courier export' again" in message


def test_scores_that_are_no_numbers(workdir, monkeypatch):
    monkeypatch.setattr(
        CtrRanker, "quality", lambda *_: {"auc": np.nan, "calibration": np.nan, "calibration_error": np.nan}
    )
    assert "AUC on the valid span is not defined" in refusal(workdir)


def test_an_encoder_and_a_codebook_of_different_runs(workdir):
    codebook, facts = np.load(workdir / "cluster" / "codebook.npy"), artefacts.read(workdir / CLUSTER, CLUSTER).facts
    with artefacts.write_aside(
        workdir / "cluster", artefacts.MadeBy(CLUSTER, {"seed": 9}, {}), keep_partial=False
    ) as draft:
        np.save(draft.path / "codebook.npy", codebook[:, ::-1])
        draft.facts = dataclasses.replace(facts, encoder="another")
    message, encoder = refusal(workdir), artefacts.read(workdir / "pretrain", PRETRAIN).facts.encoder
    assert "encoder and codebook do not belong together" in message
    assert f"was made with the encoder another, not with {encoder}" in message
    for given in ("photos", "pixels"):
        assert f"codes of level 0 of {given} are not those of the codebook" in message


def test_an_encoder_and_embeddings_of_different_runs(workdir):
    file = workdir / "embed" / artefacts.ARTEFACT_FILE
    content = json.loads(file.read_text())
    encoder, content["facts"]["encoder"] = content["facts"]["encoder"], "another"
    file.write_text(json.dumps(content))
    message = refusal(workdir)
    assert "encoder and embeddings do not belong together" in message
    assert f"was made with the encoder another, not with {encoder}" in message


def test_a_warm_up_that_does_not_run(workdir):
    from serving.bundle.messages import Request

    version = workdir / "models" / "similar_items" / "1"
    warmup.write(version, "similar_items", [Request("by_photo", {"photo": np.array([b""], object)})], {})
    seal_again(version)
    assert "warm-up request 1, signature 'by_photo'" in refusal(workdir)


def test_a_warm_up_that_cannot_be_read(workdir):
    """A request whose tensor is of a kind that there is not."""
    version = workdir / "models" / "similar_items" / "1"
    log = next(iter(warmup.read(version)))
    log.predict_log.request.inputs["item_id"].dtype = 99
    with tf.io.TFRecordWriter(str(version / warmup.WARM_UP_FILE)) as writer:
        writer.write(log.SerializeToString())
    seal_again(version)
    assert "warm-up request 1: input 'item_id' is not a tensor" in refusal(workdir)


def test_an_op_that_is_not_stock(workdir, monkeypatch):
    monkeypatch.setattr(promotion_checks, "require_stock_ops", require_stock_ops)
    file = workdir / "models" / "ctr_ranker" / "1" / "saved_model.pb"
    file.write_bytes(file.read_bytes().replace(b"Sigmoid", b"Sc>ann!"))
    seal_again(file.parent)
    assert "ctr_ranker/1 holds ops that stock TensorFlow lacks: Sc>ann!" in refusal(workdir)


def test_nothing_was_exported(workdir):
    shutil.rmtree(workdir / "models" / "similar_items")
    assert "holds no version of similar_items" in refusal(workdir)


def test_no_roll_back_to_versions_that_are_gone(workdir):
    releases = Releases.read(workdir / "serving")
    promoted(workdir)
    write_rank(workdir, seed=2)
    export_again(workdir)
    promoted(workdir)
    shutil.rmtree(workdir / "models" / "ctr_ranker" / "1")
    with pytest.raises(ReleaseError, match="ctr_ranker/1 is gone"):
        roll_back(workdir)
    assert releases.promoted == () and len(Releases.read(workdir / "serving").promoted) == 2
