"""What a version must be by itself to be promoted, be something stable or not. Each fault is accepted by name."""

import json

import pytest

from courier_tf.exporting.ctr_ranker import CtrRanker
from courier_tf.settings import PromotionSettings
from courier_tf.workdir import artefacts
from serving.bundle.releases import Releases
from tests.exporting.promotions import LENIENT, promoted, refusal
from tests.exporting.test_promotion_checks import SOUND
from tests.sealing import seal_description
from tests.served_shop import export_again, write_rank

WORSE = {**SOUND, "auc": 0.4021, "auc_low": 0.3899}
CHANCE = {**SOUND, "auc": 0.5030, "auc_low": 0.5}
OFF = {**SOUND, "calibration": 2.4, "calibration_error": 0.8755}
COLLAPSED = {"effective_rank": 1.95, "neighbours_cosine": 0.9999, "pairs_cosine": 0.9971}
CASES = {
    "auc": (WORSE, {}, "AUC 0.4021 on 9,000 impressions of valid (2,000 clicks) is not shown to be better than chance"),
    "calibration": (OFF, {}, "predicted clicks are 2.40 times the 2,000 clicks of valid: the limit is a factor of 1.5"),
    "collapse": (
        SOUND,
        COLLAPSED,
        "effective rank 1.95, neighbours' cosine 0.9999, cosine of all pairs 0.9971",
    ),
}


def spread(workdir, quality):
    """Makes the figures of the embeddings others, as if the cluster stage had measured them."""
    file = workdir / "cluster" / artefacts.ARTEFACT_FILE
    content = json.loads(file.read_text())
    content["facts"]["quality"] |= quality
    content["facts"]["embedding_dim"] = 256
    file.write_text(json.dumps(content))
    seal_description(file.parent)


def accepting(*names):
    return PromotionSettings(auc_tolerance=1.0, calibration_tolerance=100.0, accept=names)


def refused(workdir, monkeypatch, check):
    """The refusal of a version with one fault, where the others are accepted."""
    figures, quality, reason = CASES[check]
    monkeypatch.setattr(CtrRanker, "quality", lambda *_: dict(figures))
    spread(workdir, {"effective_rank": 18.0, "pairs_cosine": 0.3, **quality})
    message = refusal(workdir, accepting(*set(CASES) - {check}))
    assert reason in message and message.endswith(f"(--accept {check})") and message.count("\n- ") == 1
    return message


@pytest.mark.parametrize(
    "check", [pytest.param(name, marks=pytest.mark.slow) if name != "collapse" else name for name in CASES]
)
def test_a_fault_is_refused_until_it_is_accepted_by_name(workdir, monkeypatch, check):
    message = refused(workdir, monkeypatch, check)
    release = promoted(workdir, accepting(check))
    assert list(release.accepted) == [check] and release.accepted[check] in message
    assert Releases.read(workdir / "serving").stable == release
    card = (workdir / "serving" / "model_card.md").read_text()
    assert f"Promoted in spite of *{check}*" in card and "`ctr_ranker` 1, " in card


@pytest.mark.slow
def test_a_later_promotion_is_checked_alike(workdir, monkeypatch):
    promoted(workdir, LENIENT)
    write_rank(workdir, seed=2)
    export_again(workdir)
    messages = {check: refused(workdir, monkeypatch, check) for check in CASES}
    release = promoted(workdir, accepting(*CASES))
    assert list(release.accepted) == ["collapse"] and release.accepted["collapse"] in messages["collapse"]
    assert "Promoted in spite of *collapse*" in (workdir / "serving" / "model_card.md").read_text()


@pytest.mark.parametrize(("low", "faults"), [(0.5, ["auc"]), (0.5001, [])])
def test_the_bound_of_the_auc_counts(low, faults):
    assert list(CtrRanker().faults({**SOUND, "auc": 0.52, "auc_low": low})) == faults


def test_what_is_sound_needs_no_word(workdir, monkeypatch):
    monkeypatch.setattr(CtrRanker, "quality", lambda *_: dict(SOUND))
    spread(workdir, {"effective_rank": 18.0, "pairs_cosine": 0.3})
    release = promoted(workdir, PromotionSettings(accept=("auc",)))
    assert release.accepted == {} and release.measured["encoder"] == {"effective_rank": 18.0, "pairs_cosine": 0.3}
    card = (workdir / "serving" / "model_card.md").read_text()
    promotion = card.partition("## Promotion")[2]
    assert "`ctr_ranker` 1, " in promotion and "in spite of" not in promotion
    export_again(workdir)
    card = (workdir / "serving" / "model_card.md").read_text()
    assert card.endswith(promotion) and "effective rank 18.00" in card, "another export keeps what is stable"


def test_all_faults_are_told_at_once(workdir, monkeypatch):
    monkeypatch.setattr(CtrRanker, "quality", lambda *_: {**WORSE, "calibration": 0.4})
    spread(workdir, COLLAPSED)
    message = refusal(workdir, PromotionSettings())
    assert all(f"(--accept {check})" in message for check in CASES) and "0.40 times" in message


def test_the_bound_is_that_of_the_users_of_valid(workdir):
    """The ranker of this workdir has random weights, whose AUC is that of chance."""
    figures = promoted(workdir, LENIENT).measured["ctr_ranker"]
    assert figures["clicks"] == 100 and figures["impressions"] == 300
    assert 0.05 < figures["auc"] - figures["auc_low"] < 0.2, "twelve users"
