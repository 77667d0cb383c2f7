"""The calls of a log, by model and label: what a comparison of canary and stable begins with."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from courier_tf.escaping import printable
from courier_tf.monitoring.canary_checks import Calls, Clicks
from courier_tf.monitoring.ranked import has_pairs, pairs_of
from courier_tf.monitoring.shown import ShownList
from serving.client.contract import CTR_RANKER
from serving.client.request_log import Logged, read_log

STABLE, CANARY = "stable", "canary"
#: A call counts with these quantiles of its scores, whatever its number of candidates.
SCORE_QUANTILES = np.linspace(0.05, 0.95, 10)

#: Label -> its calls to one model.
Sides = Mapping[str, "Side"]


class CanaryError(ValueError):
    """The log cannot be judged: it holds several versions of a label, the same one for both, or no times."""


@dataclasses.dataclass
class Side:
    """What is read of one label of a model.

    Attributes:
        users: of each call; a call without a user, or of several, is a user of its own.
        failed, seconds: of each call.
        scores: quantiles of each answered call's.
        versions: that have answered.
        shown: user, request ID, click and score of each item shown.
    """

    users: list[bytes] = dataclasses.field(default_factory=list)
    failed: list[bool] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    scores: list[np.ndarray] = dataclasses.field(default_factory=list)
    versions: set[int] = dataclasses.field(default_factory=set)
    shown: list[tuple[bytes, str, int, float]] = dataclasses.field(default_factory=list)

    def add(self, logged: Logged, shown: Mapping[str, ShownList]) -> None:
        """Takes a call, and what was shown after it."""
        number, user = len(self.users), _user(logged)
        self.users.append(b"call %d" % number if user is None else b"user " + user)
        self.failed.append(logged.code != "OK")
        self.seconds.append(float("nan") if logged.seconds is None else logged.seconds)
        if logged.version is not None:
            self.versions.add(logged.version)
        if logged.code != "OK":
            return
        if not has_pairs(logged):
            self.scores.append(np.zeros(0))
            return
        pairs, probability = pairs_of(logged)
        self.scores.append(np.quantile(probability, SCORE_QUANTILES))
        if logged.request_id is not None and logged.request_id in shown:
            of_item = dict(zip(pairs.item_id.tolist(), probability.tolist(), strict=True))
            items, clicked, _ = shown[logged.request_id]
            self.shown += [
                (self.users[-1], logged.request_id, int(click), of_item[item])
                for item, click in zip(items, clicked, strict=True)
                if item in of_item  # What was shown beside the candidates has no score.
            ]

    def version(self) -> int | None:
        """The version that has answered; None where none has."""
        return next(iter(self.versions), None)

    def calls(self) -> Calls:
        """As arrays. Scores count where all answered calls have some."""
        user = np.unique(np.array(self.users, object), return_inverse=True)[1]
        widths = {len(each) for each in self.scores}
        scores = np.stack(self.scores) if len(widths) == 1 else np.zeros([len(self.scores), 0])
        return Calls(user, np.array(self.failed), np.array(self.seconds), scores)

    def clicks(self) -> Clicks:
        """What was shown, as arrays."""
        user, request, clicked, probability = zip(*self.shown, strict=True) if self.shown else ((), (), (), ())
        users, requests = (np.unique(np.array(names, object), return_inverse=True)[1] for names in (user, request))
        return Clicks(users, requests, np.array(clicked, int), np.array(probability, float))


def read_sides(log: Path, shown: Mapping[str, ShownList], models: Sequence[str]) -> dict[str, Sides]:
    """Reads the calls to the models that both labels were asked for.

    Args:
        log: file or folder of a `RequestLog`.
        shown: what was shown after the calls.
        models: names of the models; none for all.

    Returns:
        The calls by model.

    Raises:
        RequestLogError: the log is missing or broken.
        CanaryError: it holds several versions of a label, or no times.
    """
    sides: defaultdict[str, dict[str, Side]] = defaultdict(lambda: {STABLE: Side(), CANARY: Side()})
    for logged in read_log(log, with_failed=True):
        if logged.label in (STABLE, CANARY) and (not models or logged.model in models):
            sides[logged.model][logged.label].add(logged, shown)
    compared = {model: labels for model, labels in sides.items() if all(side.users for side in labels.values())}
    _require_whole(compared, log)
    return dict(compared)


def is_new(labels: Sides) -> bool:
    """Whether the canary of a model is another version than the stable one, or has never answered."""
    stable, canary = labels[STABLE].version(), labels[CANARY].version()
    return stable is None or canary is None or stable != canary


def _user(logged: Logged) -> bytes | None:
    """The user of a call; None where it has none, or several."""
    users = set(np.ravel(logged.request.inputs.get("user_id", [])).tolist()) if logged.model == CTR_RANKER else set()
    return users.pop() if len(users) == 1 else None


def _require_whole(sides: Mapping[str, Sides], log: Path) -> None:
    """Refuses a log of several versions of a label, or without times.

    Raises:
        CanaryError: names the model.
    """
    for model, labels in sides.items():
        for label, side in labels.items():
            if len(side.versions) > 1:
                raise CanaryError(
                    f"{log}: versions {sorted(side.versions)} of {printable(model)} have answered as {label}. Name a "
                    "log that begins with this canary: one file, or a folder of its own"
                )
            if np.isnan(side.seconds).any():
                raise CanaryError(f"{log}: calls to {printable(model)} have no times; the client of today writes them")
