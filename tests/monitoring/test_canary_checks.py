"""The checks of a canary: what chance does to them, and what they notice."""

import dataclasses

import numpy as np
import pytest

from courier_tf.monitoring.canary import judged
from courier_tf.monitoring.canary_checks import Calls, Clicks, checks_of_calls, checks_of_clicks
from courier_tf.settings.monitoring import CanarySettings

LIMITS = CanarySettings()
CALLS = ("errors", "p50_seconds", "p99_seconds", "score_shift")
CLICKS = ("clicks_per_request", "calibration", "auc")


def calls(rng, number=4000, users=400, failing=0.002, slower=1.0, shift=0.0):
    """Calls of users who are slow, and scored high, in ways of their own."""
    user = rng.integers(users, size=number)
    own = rng.normal(size=users)
    failed = rng.random(number) < failing
    seconds = slower * rng.lognormal(-4 + 0.3 * own[user], 0.5)
    odds = rng.normal(own[user][:, None] + shift, 1, [number, 10])
    return Calls(user, failed, seconds, 1 / (1 + np.exp(-odds[~failed])))


def clicks(rng, requests=4000, users=400, rate=1.0, predicted=1.0, noise=0.0):
    """Three items per request with chances of a click, times `rate`; `noise` spoils the order of the predictions."""
    request = np.repeat(np.arange(requests), 3)
    chance = 0.2 / (1 + np.exp(-rng.normal(0, 1.5, 3 * requests)))
    spoilt = chance * np.exp(noise * rng.normal(size=3 * requests) - noise**2 / 2)
    user = np.repeat(rng.integers(users, size=requests), 3)
    return Clicks(user, request, (rng.random(3 * requests) < rate * chance).astype(int), predicted * rate * spoilt)


def states(checks):
    return {check.name: judged(check, len(checks)).state for check in checks}


def test_a_canary_that_is_alike_passes_with_enough_requests():
    rng = np.random.default_rng(0)
    alike = checks_of_calls(calls(rng, 20_000, 2000), calls(rng, 20_000, 2000), LIMITS)
    assert states(alike) == dict.fromkeys(CALLS, "passes")
    alike = checks_of_clicks(clicks(rng, 60_000, 6000), clicks(rng, 60_000, 6000), LIMITS)
    assert states(alike) == dict.fromkeys(CLICKS, "passes")


@pytest.mark.parametrize(
    "name, change",
    [
        ("errors", {"failing": 0.03}),
        ("p50_seconds", {"slower": 1.6}),
        ("p99_seconds", {"slower": 2.5}),
        ("score_shift", {"shift": 1.5}),
    ],
)
def test_calls_that_are_worse_fail(name, change):
    rng = np.random.default_rng(1)
    assert states(checks_of_calls(calls(rng), calls(rng, **change), LIMITS))[name] == "fails"


@pytest.mark.parametrize(
    "name, change",
    [("clicks_per_request", {"rate": 0.6}), ("calibration", {"predicted": 1.6}), ("auc", {"noise": 3.0})],
)
def test_clicks_that_are_worse_fail(name, change):
    rng = np.random.default_rng(2)
    found = states(checks_of_clicks(clicks(rng, 12_000, 1200), clicks(rng, 12_000, 1200, **change), LIMITS))
    assert found[name] == "fails" and set(found) == set(CLICKS)
    assert (
        "fails" not in states(checks_of_clicks(clicks(rng, 12_000, 1200), clicks(rng, 12_000, 1200), LIMITS)).values()
    )


def test_a_canary_that_is_better_passes():
    rng = np.random.default_rng(3)
    better = calls(rng, 8000, 800, failing=0.0, slower=0.5)
    found = states(checks_of_calls(calls(rng, 8000, 800, failing=0.02), better, LIMITS))
    assert found["errors"] == found["p50_seconds"] == found["p99_seconds"] == "passes"


def test_no_failure_at_all_is_not_certain():
    few, many = (calls(np.random.default_rng(4), number, number, failing=0.0) for number in (100, 5000))
    assert states(checks_of_calls(few, few, LIMITS))["errors"] == "open"
    assert states(checks_of_calls(many, many, LIMITS))["errors"] == "passes"


def test_the_differences_are_right_on_average_and_their_errors_are_as_large_as_they_say():
    rng, values, errors = np.random.default_rng(5), {}, {}
    for _ in range(60):
        checks = checks_of_calls(calls(rng, 1500, 150), calls(rng, 1500, 150, slower=1.2), LIMITS)
        checks += checks_of_clicks(clicks(rng, 1500, 150), clicks(rng, 1500, 150), LIMITS)
        for check in checks:
            values.setdefault(check.name, []).append(check.difference.value)
            errors.setdefault(check.name, []).append(check.difference.error)
    for name, value in values.items():
        spread, told = np.std(value), np.mean(errors[name])
        # 1.2 times slower is on the border of what is allowed.
        assert abs(np.mean(value)) < 4 * told / np.sqrt(60), name
        assert spread / 1.3 < told < 2.5 * spread, name


def test_users_who_ask_much_do_not_make_it_surer():
    """Ten times the same calls of the same users tell nothing more of them."""
    rng = np.random.default_rng(6)
    sides = [calls(rng, 1000, 200, failing=0.1) for _ in range(2)]
    again = [
        Calls(*(np.repeat(getattr(side, field.name), 10, axis=0) for field in dataclasses.fields(Calls)))
        for side in sides
    ]
    for once, often in zip(checks_of_calls(*sides, LIMITS), checks_of_calls(*again, LIMITS), strict=True):
        if once.name != "errors":  # Its error has a floor, by the number of calls.
            assert often.difference.error == pytest.approx(once.difference.error, rel=0.35), once.name


def test_checks_without_clicks_or_answers_are_left_out():
    rng = np.random.default_rng(8)
    none = Clicks(*(np.zeros(0, int) for _ in range(3)), np.zeros(0))
    assert checks_of_clicks(none, clicks(rng), LIMITS) == []
    dead = calls(rng, 2000, 200, failing=1.0)
    (check,) = checks_of_calls(calls(rng), dead, LIMITS)
    assert check.name == "errors" and judged(check, 1).state == "fails"
    bare = dataclasses.replace(calls(rng), scores=np.zeros([4000, 0]))
    assert [check.name for check in checks_of_calls(bare, bare, LIMITS)] == list(CALLS[:3])
