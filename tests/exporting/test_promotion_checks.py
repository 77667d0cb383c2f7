"""Promotion checks: each signature that answers otherwise than the trained model, and every other reason."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.exporting import promotion_checks, registry
from courier_tf.exporting.ctr_ranker import CtrRanker
from courier_tf.exporting.promotion_checks import PromotionError, measure
from courier_tf.settings import PromotionSettings
from courier_tf.workdir import artefacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import CLUSTER, PRETRAIN
from serving.bundle import warmup
from serving.bundle.stock_ops import require_stock_ops
from serving.client import contract
from serving.client.contract import Request
from tests.exporting.promotions import LENIENT, promoted, refusal
from tests.sealing import seal_again, seal_description
from tests.served_shop import export_again, write_rank

#: Figures of a ranker that can be promoted.
SOUND = {"impressions": 9000, "clicks": 2000, "auc": 0.7, "auc_low": 0.69, "calibration": 1.0, "calibration_error": 0.0}


class Tampered:
    """A served model of which one signature answers otherwise."""

    def __init__(self, model, signature, change):
        self.model, self.tampered, self.change = model, signature, change
        self.signature, self.signatures = model.signature, model.signatures

    def __call__(self, **values):
        return self.run(self.signature, values)

    def run(self, signature, values):
        answers = self.model.run(signature, values)
        return {**answers, **self.change(answers)} if signature == self.tampered else answers


def shifted(name, by=3e-5):
    """The last row of an output is a little off."""

    def change(answers):
        changed = answers[name].copy()
        changed[-1] += by
        return {name: changed}

    return change


def rolled(name):
    """Right answers in the wrong rows."""
    return lambda answers: {name: np.roll(answers[name], 1, axis=0)}


def other_code(answers):
    codes = answers["codes"].copy()
    codes[-1, 1] = 1 - codes[-1, 1].clip(0, 1)
    return {"codes": codes}


def nothing(answers):
    return {"item_ids": np.full_like(answers["item_ids"], b""), "similarity": np.zeros_like(answers["similarity"])}


RANKER, EMBEDDER, SIMILAR = registry.model_names()
CASES = [
    (RANKER, "serving_default", shifted("probability"), "the ranker's pairs are served with a difference of"),
    (RANKER, "serving_default", lambda f: {"probability": f["probability"] * np.nan}, "a difference of nan"),
    (RANKER, "rank", shifted("probability"), "the ranker's rank are served with a difference of"),
    (RANKER, "rank", lambda f: {"probability": f["probability"] * np.nan}, "a difference of nan"),
    (RANKER, "examples", shifted("probability"), "the ranker's examples are served with a difference of"),
    (RANKER, "classify", shifted("scores"), "the ranker's classify are served with a difference of"),
    (RANKER, "regress", shifted("outputs"), "the ranker's regress are served with a difference of"),
    (EMBEDDER, "serving_default", shifted("embedding"), "embeddings of photos are served with a difference of"),
    (EMBEDDER, "pixels", shifted("embedding"), "embeddings of pixels are served with a difference of"),
    (EMBEDDER, "pixels", other_code, "codes of level 1 of pixels are not those"),
    (EMBEDDER, "pixels", shifted("cluster_id", 1), "codes of level 0 of pixels are not those"),
    (EMBEDDER, "pixels", shifted("codes", -100), "codes of level 0 of pixels are not those"),
]
CASES += [
    (SIMILAR, signature, change, f"similar items by {by} are served with a difference of")
    for signature, by in (("serving_default", "item"), ("by_photo", "photo"), ("by_embedding", "embedding"))
    for change in (shifted("similarity"), rolled("item_ids"), shifted("status", 3), nothing)
]


@pytest.fixture(autouse=True)
def _encoder_loaded_once(loaded_once, monkeypatch):
    """Each comparison embeds photos with the trained encoder, whose graph takes seconds to make."""
    monkeypatch.setattr("courier_tf.exporting.samples.Embedder", loaded_once["Embedder"])


@pytest.fixture
def uncompared(monkeypatch):
    """The answers are not compared with what was trained: that has tests of its own, and takes longest."""
    monkeypatch.setattr(promotion_checks, "_differences", lambda *_: [])


@pytest.fixture(scope="module")
def exported(shop, loaded_once):
    """The models as they were exported."""
    return {model: loaded_once["GraphModel"](shop.workdir / "models" / model / "1") for model in registry.model_names()}


def differences(exported, stages):
    """The reasons of the models given."""
    return [
        reason
        for model in registry.SERVED_MODELS
        if model.name in exported
        for reason in promotion_checks._differences(model, exported[model.name], stages)
    ]


@pytest.mark.slow
def test_what_was_exported_is_what_was_trained(shop, exported):
    assert differences(exported, shop.stages) == []


@pytest.mark.parametrize(("model", "signature", "change", "reason"), CASES)
@pytest.mark.slow
def test_one_signature_that_answers_otherwise(shop, exported, model, signature, change, reason):
    (given_reason,) = differences({model: Tampered(exported[model], signature, change)}, shop.stages)
    assert reason in given_reason


def test_a_signature_that_is_missing(shop, exported):
    class Without(Tampered):
        def run(self, signature, values):
            if signature == contract.BY_PHOTO:
                raise KeyError(signature)
            return self.model.run(signature, values)

    (given_reason,) = differences({SIMILAR: Without(exported[SIMILAR], "", None)}, shop.stages)
    assert given_reason == "similar_items cannot be compared with what was trained: KeyError('by_photo')"


def test_a_promotion_is_refused_with_all_of_them(shop, exported, monkeypatch):
    tampered = {
        EMBEDDER: Tampered(exported[EMBEDDER], "pixels", shifted("embedding")),
        RANKER: Tampered(exported[RANKER], "examples", shifted("probability")),
        SIMILAR: Tampered(exported[SIMILAR], "by_photo", shifted("similarity")),
    }
    monkeypatch.setattr(promotion_checks, "GraphModel", lambda directory: tampered[directory.parent.name])
    monkeypatch.setattr(promotion_checks, "require_stock_ops", lambda paths: None)
    with pytest.raises(PromotionError) as refused:
        measure(shop.stages, shop.workdir / "models", dict.fromkeys(registry.model_names(), 1), None, LENIENT)
    for text in ("the ranker's examples", "embeddings of pixels", "similar items by photo"):
        assert text in str(refused.value)
    assert str(refused.value).count("\n- ") == 3


@pytest.mark.slow
def test_a_worse_version_is_refused(workdir, uncompared, monkeypatch):
    promoted(workdir)
    write_rank(workdir, seed=2)
    export_again(workdir)
    quality = {**SOUND, "auc": 0.7, "calibration_error": 0.0}
    figures = iter([{**quality, "auc": 0.69, "calibration_error": 0.2, "calibration": 1.22}, quality] * 2)
    monkeypatch.setattr(CtrRanker, "quality", lambda *_: dict(next(figures)))
    message = refusal(workdir, PromotionSettings())
    assert "AUC 0.6900, but the stable version has 0.7000" in message
    assert "calibration 1.220, but the stable version has 1.000" in message
    promoted(workdir, PromotionSettings(auc_tolerance=0.02, calibration_tolerance=0.3))


def test_answers_that_are_not_the_trained_models(workdir):
    """The rank stage was run again, the export was not; then weights that do not belong to what was measured."""
    write_rank(workdir, seed=2)
    message = refusal(workdir)
    assert "the ranker's pairs are served with a difference of" in message and "rank are served" in message
    assert "belongs to the rank" in message and "run 'courier export' again" in message


def test_scores_that_are_no_numbers(workdir, uncompared, monkeypatch):
    monkeypatch.setattr(
        CtrRanker,
        "quality",
        lambda *_: {**SOUND, "auc": np.nan, "auc_low": np.nan, "calibration": np.nan, "calibration_error": np.nan},
    )
    assert "AUC on the valid span is not defined" in refusal(workdir)


def test_an_encoder_and_a_codebook_of_different_runs(workdir):
    codebook, facts = np.load(workdir / "cluster" / "codebook.npy"), artefacts.read(workdir / CLUSTER, CLUSTER).facts
    with artefacts.write_aside(workdir / "cluster", MadeBy(CLUSTER, {"seed": 9}, {}), keep_partial=False) as draft:
        np.save(draft.path / "codebook.npy", codebook[:, ::-1])
        draft.facts = dataclasses.replace(facts, encoder="another")
    message, encoder = refusal(workdir), artefacts.read(workdir / "pretrain", PRETRAIN).facts.encoder
    assert "encoder and codebook do not belong together" in message
    assert f"was made with the encoder another, not with {encoder}" in message
    for given in ("photos", "pixels"):
        assert f"codes of level 0 of {given} are not those of the codebook" in message


def test_an_encoder_and_embeddings_of_different_runs(workdir, uncompared):
    file = workdir / "embed" / artefacts.ARTEFACT_FILE
    content = json.loads(file.read_text())
    encoder, content["facts"]["encoder"] = content["facts"]["encoder"], "another"
    file.write_text(json.dumps(content))
    seal_description(file.parent)
    message = refusal(workdir)
    assert "encoder and embeddings do not belong together" in message
    assert f"was made with the encoder another, not with {encoder}" in message


def test_a_warm_up_that_does_not_run(workdir, uncompared):

    version = workdir / "models" / "similar_items" / "1"
    warmup.write(version, "similar_items", [Request("by_photo", {"photo": np.array([b""], object)})], {})
    seal_again(version)
    assert "warm-up request 1, signature 'by_photo'" in refusal(workdir)


def test_a_warm_up_that_cannot_be_read(workdir, uncompared):
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
