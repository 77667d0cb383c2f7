"""One test for each kind of verdict, its edges, and which kind comes first."""

import math
import textwrap

import pytest

from courier_tf.ranking.verdict import FEWEST_CLICKS, TIGHT, WIDEST, Kind, clicks_needed, verdict
from tests.ranking.run_metrics import gain_of, metrics_of

HELPS, HARMS, NOTHING = gain_of(0.08, 0.07, 0.09), gain_of(-0.02, -0.03, -0.01), gain_of(0.001, -0.002, 0.004)


def judged(**changes):
    """The verdict on a run that is sound apart from the changes; what is printed fits."""
    found = verdict(metrics_of(**changes))
    assert all(len(row) <= WIDEST for row in found.rows)
    assert len(textwrap.wrap(found.sentence, WIDEST)) <= 4
    return found


def test_it_helps():
    found = judged(over_none=HELPS, over_control=gain_of(0.085, 0.06, 0.11))
    assert found.kind == Kind.HELPS
    assert found.sentence == (
        "Visual features help: +8.00 points of AUC (800 clicks on items new to the user, valid span), and the control "
        "confirms it."
    )
    assert found.rows == (
        "  gain over none         +8.00  (+7.00 to +9.00, 95 %)",
        "  gain over the control  +8.50  (+6.00 to +11.00, 95 %)",
    )


def test_it_helps_without_a_control():
    found = judged(over_none=HELPS, modes=("none", "cluster_id"))
    assert found.kind == Kind.HELPS and found.sentence.endswith("no control confirms it.")
    assert found.rows[1].endswith("no control: add cluster_id_permuted to --rank-modes")
    long = judged(over_none=HELPS, modes=("none", "cluster_id+simscore+vector"))
    assert long.rows[1].endswith("no control: add one, MODE_permuted, to --rank-modes")


@pytest.mark.parametrize(("low", "kind"), [(0.0, Kind.NOT_SHOWN), (1e-9, Kind.HELPS), (-0.01, Kind.NOT_SHOWN)])
def test_a_control_that_gains_as_much(low, kind):
    found = judged(over_none=HELPS, over_control=gain_of(0.01, low, 0.03))
    assert found.kind == kind and ("photos of other items may gain as much" in found.sentence) == (low <= 0)


@pytest.mark.parametrize(
    ("high", "kind"), [(-1e-9, Kind.DOES_NOT_HELP), (0.0, Kind.DOES_NOT_HELP), (0.02, "not shown")]
)
def test_it_harms(high, kind):
    found = judged(over_none=gain_of(-0.02, -0.04, high))
    assert found.kind == kind and ("they harm: -2.00 points" in found.sentence) == (high < 0)


@pytest.mark.parametrize(("high", "kind"), [(TIGHT - 1e-9, Kind.DOES_NOT_HELP), (TIGHT, Kind.NOT_SHOWN)])
def test_no_gain_with_a_tight_interval(high, kind):
    assert judged(over_none=gain_of(0.001, -0.003, high)).kind == kind


def test_a_gain_of_less_than_half_a_point_helps_where_it_is_certain():
    found = judged(over_none=gain_of(0.002, 0.001, 0.003), over_control=gain_of(0.002, 0.001, 0.003))
    assert found.kind == Kind.HELPS


def test_an_interval_that_holds_0_says_how_many_clicks_would_tell():
    found = judged(over_none=gain_of(0.01, -0.01, 0.03), clicks=800)
    assert found.kind == Kind.NOT_SHOWN and found.sentence.endswith("may be chance; about 3,200 clicks would tell.")


def test_with_so_many_clicks_the_same_gain_is_told():
    for gain in (-0.02, -0.001, 0.0, 0.002, 0.004, 0.03):
        width = 0.05
        needed = clicks_needed(500, gain, gain - width, gain + width)
        narrow = width * math.sqrt(500 / (needed * 1.01))
        low, high = gain - narrow, gain + narrow
        assert low > 0 or high < TIGHT, gain
        wide = width * math.sqrt(500 / (needed * 0.99))
        assert not (gain - wide > 0 or gain + wide < TIGHT), gain


@pytest.mark.parametrize("clicks", [0, 69, FEWEST_CLICKS - 1])
def test_too_few_clicks(clicks):
    found = judged(over_none=HELPS if clicks else None, clicks=clicks, clicks_all=clicks)
    assert found.kind == Kind.NOT_SHOWN and f"too few clicks ({clicks} clicks" in found.sentence
    assert f"about {'100' if clicks else '5,000'} are needed" in found.sentence
    assert judged(over_none=HELPS, over_control=HELPS, clicks=FEWEST_CLICKS).kind == Kind.HELPS


def test_one_start_has_no_honest_interval():
    for missing in ({"gain": 0.08}, {"gain": 0.08, "low": None, "high": None}):
        found = judged(over_none=missing, over_control=missing)
        assert found.kind == Kind.NOT_SHOWN and "take --rank-starts 3" in found.sentence
        assert found.rows[0].endswith("+8.00  (no interval: one start or one user)")
    several = metrics_of({"gain": 0.08, "low": None, "high": None}) | {"made_by": {"settings": {"rank_starts": 3}}}
    assert verdict(several).sentence.endswith("may be that of one user.")


def test_a_gain_that_is_not_defined_new_to_the_user_is_that_of_all():
    found = judged(over_none=None, over_none_all=HELPS, over_control_all=HELPS)
    assert found.kind == Kind.HELPS and "(1,000 clicks, valid span)" in found.sentence
    nowhere = judged(over_none=None)
    assert nowhere.kind == Kind.NOT_SHOWN and "not defined" in nowhere.sentence and "not defined" in nowhere.rows[0]


@pytest.mark.parametrize("gain", [HELPS, HARMS, NOTHING, None])
def test_no_gain_of_a_collapsed_encoder_is_believed(gain):
    quality = {"effective_rank": 1.95, "neighbours_cosine": 0.9999, "pairs_cosine": 0.9971}
    found = judged(over_none=gain, quality=quality, clicks=20)
    assert found.kind == Kind.COLLAPSED
    assert "(effective rank 1.95, neighbours' cosine 0.9999, cosine of all pairs 0.9971): believe no" in found.sentence


@pytest.mark.parametrize("gain", [HELPS, HARMS, NOTHING, None])
def test_no_gain_of_a_ranker_worse_than_chance_is_believed(gain):
    found = judged(over_none=gain, auc=0.4, quality={"effective_rank": 1.0}, calibration=3.0)
    assert found.kind == Kind.WORSE_THAN_CHANCE
    assert found.sentence.startswith(
        "The ranker is worse than chance (AUC 40.00, 1,000 clicks, valid span): believe no"
    )


@pytest.mark.parametrize(
    ("auc", "clicks", "believed", "words"),
    [
        (0.501, 1000, True, ""),
        (0.499, 1000, False, "no better than chance"),
        (0.46, 40, True, ""),
        (0.2, 40, False, "worse"),
    ],
)
def test_chance_of_few_clicks_is_no_fault_of_the_ranker(auc, clicks, believed, words):
    found = judged(over_none=HELPS, auc=auc, clicks_all=clicks, clicks=clicks)
    assert (found.kind != Kind.WORSE_THAN_CHANCE) == believed and words in found.sentence


@pytest.mark.parametrize(("auc", "believed"), [(0.49, True), (0.4, False)])
def test_without_photos_there_may_be_nothing_to_go_by(auc, believed):
    found = judged(over_none=HELPS, over_control=HELPS, auc_none=auc)
    assert (found.kind == Kind.HELPS) == believed
    assert found.sentence.startswith("Visual" if believed else "The ranker without photos is worse than chance")


@pytest.mark.parametrize(
    ("calibration", "words"),
    [
        (2.4, "too high by a factor of 2.4"),
        (1 / 2.4, "too low by a factor of 2.4"),
        (0.0, "too low by a factor of inf"),
    ],
)
def test_calibration_is_off_whatever_the_gain_is(calibration, words):
    for gain, rest in ((HELPS, "Visual features help"), (HARMS, "they harm"), (NOTHING, "do not help")):
        found = judged(over_none=gain, over_control=HELPS, calibration=calibration)
        assert found.kind == Kind.CALIBRATION_OFF and words in found.sentence and rest in found.sentence


def test_calibration_within_its_limit_or_within_chance():
    assert judged(over_none=HELPS, over_control=HELPS, calibration=1.45).kind == Kind.HELPS
    assert judged(over_none=HELPS, calibration=2.4, clicks=9, clicks_all=9).kind == Kind.NOT_SHOWN


@pytest.mark.parametrize("modes", [("none",), ("cluster_id", "cluster_id_permuted"), ("none", "cluster_id_permuted")])
def test_nothing_to_compare(modes):
    found = judged(modes=modes, over_none=HELPS)
    assert found.kind == Kind.NOT_COMPARED and "--rank-modes must name" in found.sentence


def test_the_last_features_that_are_no_control_are_judged_on_the_test_span_where_it_was_read():
    modes = ("none", "cluster_id", "simscore", "simscore_permuted", "cluster_id_permuted")
    metrics = metrics_of(modes=modes, over_none=HELPS, over_control=HELPS)
    metrics["gain_over_none"]["valid"]["cluster_id"] = dict.fromkeys(("all", "new_to_user"), HARMS)
    assert verdict(metrics).kind == Kind.HELPS
    both = metrics_of(modes=modes, over_none=HELPS, splits=("valid", "test"))
    both["gain_over_none"]["test"]["simscore"] = dict.fromkeys(("all", "new_to_user"), HARMS)
    found = verdict(both)
    assert found.kind == Kind.DOES_NOT_HELP and "test span" in found.sentence


def test_an_interval_that_begins_at_0_shows_nothing():
    assert judged(over_none=gain_of(0.01, 0.0, 0.02), over_control=HELPS).kind == Kind.NOT_SHOWN
    assert judged(over_none=gain_of(0.01, 1e-9, 0.02), over_control=HELPS).kind == Kind.HELPS
