"""The verdict of a run: do visual features help, by how much, over how many clicks, and can it be believed?

It is a pure function of what stands in `metrics.json`. Kinds that say why no gain can be believed come first: a gain of
a ranker worse than chance, or of a collapsed encoder, means nothing, however tight its interval is.
"""

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any

from courier_tf.ranking.evaluation import NEW_TO_USER
from courier_tf.ranking.soundness import chance_error, factor_of, is_collapsed, is_miscalibrated, spread_of
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE, PERMUTED, is_control

FEWEST_CLICKS = 100  # With fewer, a bootstrap over their users says little.
USUAL_CLICKS = 5000  # About so many tell a gain of one point, where nothing better is known: see `make demo`.
TIGHT = 0.005  # A gain that is certainly below half a point of AUC is none.
WIDEST = 80  # Characters of a row.
UNKNOWN = "It is not shown whether visual features help"


class Kind(enum.StrEnum):
    """What a verdict says."""

    NOT_COMPARED = "not compared"
    WORSE_THAN_CHANCE = "worse than chance"
    COLLAPSED = "the encoder has collapsed"
    CALIBRATION_OFF = "calibration off"
    NOT_SHOWN = "not shown"
    HELPS = "helps"
    DOES_NOT_HELP = "does not help"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a run ends with.

    Attributes:
        kind: of the verdict.
        sentence: the verdict in words.
        rows: the gain over `none` and that over the permuted control, in points with the interval, at most `WIDEST`
            characters wide.
    """

    kind: Kind
    sentence: str
    rows: tuple[str, str]


@dataclasses.dataclass(frozen=True)
class _Compared:
    """What the verdict is about.

    Attributes:
        mode: the visual features, the last ones that are no control.
        split: valid or test.
        name: the slice, `NEW_TO_USER` or all.
        clicks: positives of the slice.
        over_none, over_control: the gains there, None where there is none.
        starts: rankers of each mode.
    """

    mode: str
    split: str
    name: str
    clicks: int
    over_none: Mapping[str, Any] | None
    over_control: Mapping[str, Any] | None
    starts: int

    @property
    def where(self) -> str:
        what = " on items new to the user" if self.name == NEW_TO_USER else ""
        return f"{self.clicks:,} clicks{what}, {self.split} span"


def verdict(metrics: Mapping[str, Any]) -> Verdict:
    """Judges a run by its figures on the test span where that was read, else on valid.

    Args:
        metrics: content of `metrics.json`.

    Returns:
        The verdict on the last visual features that are no control: those that are served. It is about candidates new
        to the user, or about all impressions where the gain is not defined there.
    """
    split = "test" if "test" in metrics["gain_over_none"] else "valid"
    modes = [mode for mode in metrics["ranking"] if mode != NO_VISUAL_FEATURE and not is_control(mode)]
    if not modes or NO_VISUAL_FEATURE not in metrics["ranking"]:
        missing = "a visual feature beside none" if not modes else "none, the ranker without photos"
        sentence = f"Nothing is compared: --rank-modes must name {missing}."
        return Verdict(Kind.NOT_COMPARED, sentence, (_row("none", None, ""), _row("the control", None, "")))
    compared = _compared(metrics, modes[-1], split)
    kind, sentence = _unbelievable(metrics, compared) or _with_calibration(metrics, compared)
    control = f"{compared.mode}{PERMUTED}"
    lacks = "" if control in metrics["ranking"] else f"no control: add {control} to --rank-modes"
    rows = (_row("none", compared.over_none, ""), _row("the control", compared.over_control, lacks))
    return Verdict(kind, sentence, rows)


def _compared(metrics: Mapping[str, Any], mode: str, split: str) -> _Compared:
    gains = metrics["gain_over_none"][split].get(mode, {})
    name = NEW_TO_USER if gains.get(NEW_TO_USER) else "all"
    measured = metrics["ranking"][mode][split]
    part = measured if name == "all" else measured["slices"][name]
    starts = metrics.get("made_by", {}).get("settings", {}).get("rank_starts", 1)
    over_control = metrics.get("gain_over_control", {}).get(split, {}).get(mode, {})
    return _Compared(mode, split, name, part["positives"], gains.get(name), over_control.get(name), starts)


def _unbelievable(metrics: Mapping[str, Any], compared: _Compared) -> tuple[Kind, str] | None:
    """Why no gain of this run can be believed; None where it can."""
    for mode, what in ((compared.mode, "The ranker"), (NO_VISUAL_FEATURE, "The ranker without photos")):
        part = metrics["ranking"][mode][compared.split]
        auc, clicks = part["auc"], part["positives"]
        if auc is None or auc > 0.5:
            continue
        clearly = auc < 0.5 - 2 * chance_error(clicks, part["impressions"] - clicks)
        # Without photos there may be nothing to go by: no better than chance is no fault there.
        if clearly or (mode != NO_VISUAL_FEATURE and clicks >= FEWEST_CLICKS):
            return Kind.WORSE_THAN_CHANCE, (
                f"{what} is {'worse' if clearly else 'no better'} than chance (AUC {100 * auc:.2f}, {clicks:,} clicks, "
                f"{compared.split} span): believe no gain; look at labels, times and negatives of the log."
            )
    clusters = metrics["clusters"]
    if is_collapsed(clusters["quality"], clusters["embedding_dim"]):
        return Kind.COLLAPSED, (
            f"The encoder has collapsed ({spread_of(clusters['quality'])}): believe no gain; photos that differ, or "
            "more --supervised-steps, may help."
        )
    return None


def _with_calibration(metrics: Mapping[str, Any], compared: _Compared) -> tuple[Kind, str]:
    """The verdict on the gain. Where probabilities are off, that comes first: the order may be right all the same."""
    kind, sentence = _on_gain(compared)
    part = metrics["ranking"][compared.mode][compared.split]
    calibration = part["calibration"]
    if calibration is None or not is_miscalibrated(calibration, part["positives"]):
        return kind, sentence
    off = f"Probabilities are too {'high' if calibration > 1 else 'low'} by a factor of {factor_of(calibration):.1f}"
    return Kind.CALIBRATION_OFF, f"{off}: believe the order alone. {sentence}"


def _on_gain(compared: _Compared) -> tuple[Kind, str]:
    gain, clicks, where = compared.over_none, compared.clicks, compared.where
    low, high = _interval(gain)
    if clicks < FEWEST_CLICKS:
        needed = USUAL_CLICKS if gain is None or low is None else clicks_needed(clicks, gain["gain"], low, high)
        few = f"too few clicks ({where}); about {_rounded(max(needed, FEWEST_CLICKS))} are needed"
        return Kind.NOT_SHOWN, f"{UNKNOWN}: {few}."
    if gain is None:
        return Kind.NOT_SHOWN, f"{UNKNOWN}: the gain is not defined ({where}, none without a click)."
    points = f"{100 * gain['gain']:+.2f} points of AUC ({where})"
    if low is None or high is None:
        remedy = "the chance of one start; take --rank-starts 3" if compared.starts < 2 else "that of one user"
        return Kind.NOT_SHOWN, f"{UNKNOWN}: {points} may be {remedy}."
    if high < 0:
        return Kind.DOES_NOT_HELP, f"Visual features do not help, they harm: {points}."
    if low > 0:
        control_low, control_high = _interval(compared.over_control)
        if control_low is None or control_high is None:
            return Kind.HELPS, f"Visual features help: {points}; no control confirms it."
        if control_low > 0:
            return Kind.HELPS, f"Visual features help: {points}, and the control confirms it."
        return Kind.NOT_SHOWN, f"{UNKNOWN}: {points}, but photos of other items may gain as much (the control)."
    if high < TIGHT:
        return Kind.DOES_NOT_HELP, f"Visual features do not help: {points}, and {100 * high:+.2f} at most."
    needed = clicks_needed(clicks, gain["gain"], low, high)
    return Kind.NOT_SHOWN, f"{UNKNOWN}: {points} may be chance; about {_rounded(needed)} clicks would tell."


def clicks_needed(clicks: int, gain: float, low: float | None, high: float | None) -> float:
    """About how many clicks would tell a gain like this one from none, or that it is below `TIGHT`.

    The width of an interval falls with the square root of the number of clicks.

    >>> clicks_needed(100, gain=0.01, low=-0.01, high=0.03)
    400.0
    """
    assert low is not None and high is not None
    return clicks * ((high - low) / 2 / max(gain, TIGHT - gain)) ** 2


def _rounded(number: float) -> str:
    """Two digits are enough for a guess.

    >>> _rounded(5249)
    '5,200'
    """
    step = 10 ** max(int(math.log10(max(number, 1))) - 1, 0)
    return f"{round(number / step) * step:,}"


def _interval(gain: Mapping[str, Any] | None) -> tuple[float | None, float | None]:
    """The ends of an interval; (None, None) where there is none."""
    low, high = (gain or {}).get("low"), (gain or {}).get("high")
    return (low, high) if low is not None and high is not None else (None, None)


def _row(what: str, gain: Mapping[str, Any] | None, lacks: str) -> str:
    low, high = _interval(gain)
    if gain is None:
        text = lacks or "not defined"
    elif low is None or high is None:
        text = f"{100 * gain['gain']:+.2f}  (no interval: one start or one user)"
    else:
        text = f"{100 * gain['gain']:+.2f}  ({100 * low:+.2f} to {100 * high:+.2f}, 95 %)"
    row = f"  gain over {what:<11}  {text}"
    return (
        row if len(row) <= WIDEST else f"  gain over {what:<11}  no control: add one, MODE{PERMUTED}, to --rank-modes"
    )
