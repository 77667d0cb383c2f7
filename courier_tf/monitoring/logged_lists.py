"""A log of requests and a table of what was shown, joined by request ID, and scored again by another ranker."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from courier_tf.escaping import printable
from courier_tf.monitoring.estimators import Lists, PropensityError
from courier_tf.monitoring.policies import Policy, propensities
from courier_tf.monitoring.ranked import has_pairs, pairs_of
from courier_tf.monitoring.shown import ShownError, ShownList
from serving.client.contract import Request
from serving.client.request_log import Logged, read_log

LOG = logging.getLogger(__name__)
LARGEST_PROPENSITY_ERROR = 0.01  # Of a logged propensity, as a part of the one that the logged policy has.

#: Answers a request with the probabilities of a ranker, in the shape of the logged answer.
Ranker = Callable[[Request], np.ndarray]


class ScoredLists(NamedTuple):
    """What was shown, and [R, N] the scores of another ranker for the same candidates; NaN where there is none."""

    lists: Lists
    scores: np.ndarray


class _Ranked(NamedTuple):
    """One list: the candidates with both scores, the user, and what was shown."""

    user: bytes
    candidates: dict[bytes, tuple[float, float]]
    shown: ShownList


def read_lists(
    log: Path, shown: Mapping[str, ShownList], ranker: Ranker, positions: int, logged_policy: Policy | None
) -> ScoredLists:
    """Joins what was logged with what was shown.

    Args:
        log: file or folder of a `RequestLog`.
        shown: from `read_shown`.
        ranker: the new one.
        positions: how many positions count, from the top; 0 for all.
        logged_policy: the policy that has shown the lists, where the table has no propensities. If it has some, they
            must be those of the policy.

    Raises:
        RequestLogError: the log is missing or broken.
        ShownError: nothing was shown of what is logged; or an item was shown that was no candidate.
        PropensityError: propensities are missing, or are not those of the policy.
    """
    ranked = _read(log, shown, ranker)
    if not ranked:
        raise ShownError(f"{log} and the table of shown items have no request in common, by request_id")
    LOG.info(
        "%d requests of %s have been shown; %d of the table are not in it", len(ranked), log, len(shown) - len(ranked)
    )
    lists, scores = _padded(list(ranked.items()), positions)
    if logged_policy is None and np.isnan(lists.propensity[lists.is_shown]).any():
        raise PropensityError(
            "the table of shown items has no column propensity: add it, or name the policy by --logged-policy"
        )
    if logged_policy is not None:
        lists = dataclasses.replace(lists, propensity=_checked(lists, logged_policy))
    lists.require_chances()
    return ScoredLists(lists, scores)


def _read(log: Path, shown: Mapping[str, ShownList], ranker: Ranker) -> dict[str, _Ranked]:
    ranked: dict[str, _Ranked] = {}
    for logged in read_log(log):
        if not has_pairs(logged) or logged.request_id is None or logged.request_id not in shown:
            continue
        pairs, served = pairs_of(logged)
        users = set(pairs.user_id.tolist())
        if len(users) > 1:
            raise ShownError(f"request {printable(logged.request_id)} is of {len(users)} users: a list is one user's")
        _, scores = pairs_of(_answered_by(ranker, logged))
        candidates = dict(zip(pairs.item_id.tolist(), zip(served.tolist(), scores.tolist(), strict=True), strict=True))
        before = ranked.get(logged.request_id)  # Another part of the same call.
        ranked[logged.request_id] = _Ranked(
            users.pop(), (before.candidates if before else {}) | candidates, shown[logged.request_id]
        )
    return ranked


def _answered_by(ranker: Ranker, logged: Logged) -> Logged:
    return logged._replace(outputs={"probability": ranker(logged.request)})


def _padded(ranked: list[tuple[str, _Ranked]], positions: int) -> tuple[Lists, np.ndarray]:
    widest = max(len(each.candidates) for _, each in ranked)
    longest = max(len(each.shown.items) for _, each in ranked)
    longest = min(longest, positions) if positions else longest
    scores = np.full([2, len(ranked), widest], np.nan)
    shown, clicked = np.full([len(ranked), longest], -1), np.zeros([len(ranked), longest], int)
    propensity = np.full([len(ranked), longest], np.nan)
    for row, (request, each) in enumerate(ranked):
        scores[:, row, : len(each.candidates)] = np.array(list(each.candidates.values())).T
        place = {item: number for number, item in enumerate(each.candidates)}
        items = each.shown.items[:longest]
        if strange := [item for item in items if item not in place]:
            raise ShownError(
                f"request {printable(request)} has shown {printable(repr(strange[0]))}, which was no candidate of it"
            )
        shown[row, : len(items)] = [place[item] for item in items]
        clicked[row, : len(items)] = each.shown.clicked[:longest]
        if each.shown.propensity is not None:
            propensity[row, : len(items)] = each.shown.propensity[:longest]
    _, user = np.unique(np.array([each.user for _, each in ranked], object), return_inverse=True)
    return Lists(user, shown, propensity, clicked, scores[0]), scores[1]


def _checked(lists: Lists, policy: Policy) -> np.ndarray:
    """The propensities of a policy, which those of the table must equal where it has some."""
    computed = propensities(policy, lists.scores, lists.shown)
    differs = np.abs(lists.propensity - computed) > LARGEST_PROPENSITY_ERROR * computed
    differs &= lists.is_shown  # NaN, where the table has none, differs from nothing.
    if differs.any():
        row, position = np.argwhere(differs)[0]
        raise PropensityError(
            f"{int(differs.sum())} of {int(lists.is_shown.sum())} logged propensities are not those of {policy}: at "
            f"position {position + 1} of list {row + 1} {lists.propensity[row, position]:.4g} was logged, and the "
            f"policy has {computed[row, position]:.4g}"
        )
    return computed
