"""Answers that are not those of the trained models: each signature is tampered with, and the checks see it."""

import numpy as np
import pytest

from courier_tf.exporting import promotion_checks, registry
from courier_tf.exporting.promotion_checks import PromotionError, measure
from courier_tf.settings import PromotionSettings
from serving.client import contract

LENIENT = PromotionSettings(auc_tolerance=1.0, calibration_tolerance=100.0)


class Tampered:
    """A served model of which one signature answers otherwise."""

    def __init__(self, model, signature, change):
        self.model, self.signature, self.change = model, signature, change

    def __call__(self, **values):
        return self.run(contract.DEFAULT_SIGNATURE, values)

    def run(self, signature, values):
        answers = self.model.run(signature, values)
        return {**answers, **self.change(answers)} if signature == self.signature else answers


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


@pytest.fixture(scope="module")
def exported(shop, loaded_once):
    """The models as they were exported."""
    return {model: loaded_once["GraphModel"](shop.workdir / "models" / model / "1") for model in registry.model_names()}


def differences(exported, stages):
    """The reasons of all models."""
    return [
        reason
        for model in registry.SERVED_MODELS
        for reason in promotion_checks._differences(model, exported[model.name], stages)
    ]


def test_what_was_exported_is_what_was_trained(shop, exported):
    assert differences(exported, shop.stages) == []


@pytest.mark.parametrize(("model", "signature", "change", "reason"), CASES)
def test_one_signature_that_answers_otherwise(shop, exported, model, signature, change, reason):
    (given_reason,) = differences({**exported, model: Tampered(exported[model], signature, change)}, shop.stages)
    assert reason in given_reason


def test_a_signature_that_is_missing(shop, exported):
    class Without(Tampered):
        def run(self, signature, values):
            if signature == contract.BY_PHOTO:
                raise KeyError(signature)
            return self.model.run(signature, values)

    (given_reason,) = differences({**exported, SIMILAR: Without(exported[SIMILAR], "", None)}, shop.stages)
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
