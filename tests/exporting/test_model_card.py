"""What the model card says, and what it leaves out."""

import dataclasses

from courier_tf.exporting import registry
from courier_tf.exporting.model_card import model_card, with_promotion
from serving.bundle.releases import Release, Releases
from tests.ranking.run_metrics import gain_of


def test_the_model_card_says_what_the_figures_hold_and_leaves_out_those_of_a_handful(shop):
    facts, rank = shop.stages.ingest.facts, shop.stages.rank.facts
    data = dataclasses.replace(
        facts,
        first_days={"train": "2026-01-01", "valid": "2026-01-08", "test": "2026-01-10"},
        last_days={"train": "2026-01-07", "valid": "2026-01-09", "test": "2026-01-12"},
        counts={"impressions_train": 12_000, "clicks_train": 900, "impressions_valid": 300},
        valid_from="2026-01-08",
        test_from="2026-01-10",
    )
    measured = rank.metrics["cluster_id"]
    slices = measured["slices"] | {"new_to_user": measured["slices"]["cold"] | {"positives": 900}}
    gains = {"all": gain_of(0.05, 0.04, 0.06), "new_to_user": {"gain": 0.03}}
    ranked = dataclasses.replace(
        rank,
        metrics=dict.fromkeys(("none", "cluster_id", "cluster_id_permuted"), {**measured, "slices": slices}),
        gain_over_none={"cluster_id": gains},
        gain_over_control={"cluster_id": {"all": None, "new_to_user": gain_of(0.02, -0.01, 0.05)}},
    )
    features, tried = ("pixels", "/models/a|b"), dict.fromkeys(("pixels", "pixels+/models/a|b"), {})
    encoder = dataclasses.replace(shop.stages.pretrain.facts, features=features, candidates=tried)
    stages = shop.stages._replace(
        pretrain=dataclasses.replace(shop.stages.pretrain, facts=encoder),
        ingest=dataclasses.replace(shop.stages.ingest, facts=data),
        rank=dataclasses.replace(shop.stages.rank, facts=ranked),
    )
    card = model_card(stages, dict.fromkeys(registry.model_names(), 1))
    assert "train from 2026-01-01 to 2026-01-07 (12,000 impressions, 900 clicks); valid from 2026-01-08 to" in card
    assert "test from 2026-01-10 to 2026-01-12; days are of UTC." in card
    assert r"by pixels + /models/a\|b, chosen on valid among 2 candidates." in card
    assert "Calibration on valid, predicted clicks by clicks: 1.1000." in card
    assert "| over none | all | +5.00 | +4.00 to +6.00 |\n| over none | new_to_user | +3.00 | - |" in card
    assert "| over the permuted control | all | not measured | - |" in card
    assert "| over the permuted control | new_to_user | +2.00 | -1.00 to +5.00 |" in card
    assert "**Verdict on valid:** It is not shown" in card
    assert r"| category/&lt;b&gt;\|sale | 80 | 30 | 0.6000 |" in card and "<b>" not in card
    assert "1 item stays in its previous cluster, `cluster_id` there, although another is nearer" in card
    assert "| cold |" not in card and "Left out: 1 slices with fewer than 30 clicks" in card


def test_what_was_accepted_is_said_once():
    releases = Releases().promote(Release({"a": 1}, "2026-01-01", {}, {"collapse": "rank <2>"}))
    card = with_promotion("# Model card\n", releases)
    assert "- Stable since 2026-01-01: `a` 1.\n- Promoted in spite of *collapse*: rank &lt;2&gt;.\n" in card
    later = releases.promote(Release({"a": 2}, "2026-01-02"))
    assert "collapse" not in with_promotion(card, later) and with_promotion(card, Releases()) == "# Model card\n"
    assert with_promotion(card, releases) == card
