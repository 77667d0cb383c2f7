"""Canary against stable over logged calls: promote, wait or withdraw, with reasons."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from courier_tf.monitoring.canary_checks import (
    Check,
    Clicks,
    checks_of_calls,
    checks_of_clicks,
    click_figures,
    score_figures,
)
from courier_tf.monitoring.canary_log import CANARY, STABLE, CanaryError, Sides, is_new, read_sides
from courier_tf.monitoring.shown import ShownList
from courier_tf.ranking.intervals import LEVEL
from courier_tf.settings.monitoring import CanarySettings

LEAST_USERS = 30  # Of each label: with fewer, the central limit is far.

Decision = Literal["promote", "wait", "withdraw"]


@dataclasses.dataclass(frozen=True)
class JudgedCheck:
    """A check with its confidence sequence.

    Attributes:
        name: what is compared.
        stable, canary: the figure of each side; None where it is that of both together.
        difference: what is judged, above 0 where the canary is worse. Its unit is that of `canary_checks`.
        low: its lower end, over all looks and all checks together. Above `tolerance` the check fails.
        high: its upper end, over all looks. Up to `tolerance` the check passes.
        tolerance: most that it may be.
        state: passes, fails, or open, where more requests are needed.
    """

    name: str
    stable: float | None
    canary: float | None
    difference: float
    low: float
    high: float
    tolerance: float
    state: Literal["passes", "fails", "open"]


@dataclasses.dataclass(frozen=True)
class ModelReport:
    """What is known of one model.

    Attributes:
        stable_version, canary_version: that have answered; None where every call failed.
        stable_requests, canary_requests: logged calls.
        checks: empty where there are too few requests.
        figures: what is not judged.
    """

    stable_version: int | None
    canary_version: int | None
    stable_requests: int
    canary_requests: int
    checks: tuple[JudgedCheck, ...]
    figures: dict[str, float | None]


@dataclasses.dataclass(frozen=True)
class CanaryReport:
    """What `courier canary` says.

    Attributes:
        decision: promote: every check passes. withdraw: one fails. wait: neither yet.
        reasons: what the decision rests on.
        models: by name, those whose canary is another version than the stable one.
        limits: the settings of the checks.
    """

    decision: Decision
    reasons: tuple[str, ...]
    models: dict[str, ModelReport]
    limits: CanarySettings


def judge_log(log: Path, shown: Mapping[str, ShownList], models: Sequence[str], limits: CanarySettings) -> CanaryReport:
    """Compares the two labels.

    Args:
        log: file or folder of a `RequestLog`, with all calls since the canary began.
        shown: what was shown after the calls, and clicked; empty where it is not known.
        models: names of the models to judge; none for all of the log.
        limits: the tolerances.

    Raises:
        RequestLogError: the log is missing or broken.
        CanaryError: it holds several versions of a label, nothing but the stable version for both, or no times.
    """
    sides = read_sides(log, shown, models)
    compared = {model: sides[model] for model in sorted(sides) if is_new(sides[model])}
    if sides and not compared:
        raise CanaryError(f"{log}: the canary of {', '.join(sorted(sides))} is the stable version: nothing is compared")
    checks, figures, few = {}, {}, {}
    for model, labels in compared.items():
        reason = _too_few(model, labels, limits)
        checks[model], figures[model] = ([], {}) if reason else _checks(labels, limits)
        if reason:
            few[model] = reason
    number = sum(map(len, checks.values()))
    reports = {
        model: ModelReport(
            labels[STABLE].version(),
            labels[CANARY].version(),
            len(labels[STABLE].failed),
            len(labels[CANARY].failed),
            tuple(judged(check, number) for check in checks[model]),
            figures[model],
        )
        for model, labels in compared.items()
    }
    return CanaryReport(*decide(reports, list(few.values())), reports, limits)


def judged(check: Check, number: int) -> JudgedCheck:
    """Gives a check its ends and its state.

    A wrong promotion needs an upper end that is wrong in every check, so each has the full level. A wrong withdrawal
    needs one lower end that is wrong, so the level is divided by the number of checks (Bonferroni).
    """
    low, _ = check.difference.ends(1 - (1 - LEVEL) / number)
    _, high = check.difference.ends(LEVEL)
    state: Literal["passes", "fails", "open"] = "open"
    if low > check.tolerance:
        state = "fails"
    elif high <= check.tolerance:
        state = "passes"
    return JudgedCheck(
        check.name, check.stable, check.canary, check.difference.value, low, high, check.tolerance, state
    )


def decide(reports: Mapping[str, ModelReport], few: Sequence[str]) -> tuple[Decision, tuple[str, ...]]:
    """The decision, and what it rests on.

    Args:
        reports: of the models.
        few: what keeps models from being judged.
    """
    of_state: dict[str, list[str]] = {"passes": [], "fails": [], "open": []}
    for model, report in reports.items():
        for check in report.checks:
            of_state[check.state].append(_reason(model, check))
    if of_state["fails"]:
        return "withdraw", tuple(of_state["fails"])
    if not reports:
        return "wait", ("the log holds no calls to both labels, stable and canary",)
    if few or of_state["open"]:
        return "wait", (*few, *of_state["open"])
    return "promote", tuple(of_state["passes"])


def _reason(model: str, check: JudgedCheck) -> str:
    figures = "" if check.canary is None else f"{check.stable:.4g} stable, {check.canary:.4g} canary, "
    return (
        f"{model} {check.name.replace('_', ' ')} {check.state}: {figures}difference {check.difference:+.3g} "
        f"({check.low:+.3g} to {check.high:+.3g}), tolerated {check.tolerance:.3g}"
    )


def _too_few(model: str, labels: Sides, limits: CanarySettings) -> str | None:
    for label, side in labels.items():
        users = len(set(side.users))
        if len(side.users) < limits.canary_min_requests or users < LEAST_USERS:
            return (
                f"{model}: {len(side.users):,} requests of {users:,} users to {label}; {limits.canary_min_requests:,} "
                f"of {LEAST_USERS} are needed"
            )
    return None


def _checks(labels: Sides, limits: CanarySettings) -> tuple[list[Check], dict[str, float | None]]:
    stable, canary = (labels[label].calls() for label in (STABLE, CANARY))
    figures: dict[str, float | None] = {}
    if stable.scores.size and canary.scores.size:
        figures |= score_figures(stable, canary)
    clicks = {label: labels[label].clicks() for label in (STABLE, CANARY)}
    for label, side in clicks.items():
        figures |= {f"{label}_{name}": value for name, value in _click_figures(side)}
    of_clicks = checks_of_clicks(clicks[STABLE], clicks[CANARY], limits)
    return [*checks_of_calls(stable, canary, limits), *of_clicks], figures


def _click_figures(clicks: Clicks) -> Iterator[tuple[str, float | None]]:
    if len(clicks.clicked):
        yield from click_figures(clicks).items()
