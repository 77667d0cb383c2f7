"""Policies that turn scores into shown items, and with which probability each item is shown.

A policy fills the positions of a list from the top. Each position takes one of the candidates that are left, so the
list is a draw without replacement (Plackett 1975 and Luce 1959, for the softmax).
"""

import dataclasses
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from courier_tf.escaping import printable

Kind = Literal["softmax", "epsilon"]
SMALLEST_SCORE = 1e-7  # Scores are clipped to [1e-7, 1 - 1e-7], where log odds are finite.


class PolicyError(ValueError):
    """A policy is not described as it has to be."""


@dataclasses.dataclass(frozen=True)
class Policy:
    """How scores become what is shown.

    Attributes:
        kind: softmax: the chance of a candidate is proportional to exp(log odds of its score / temperature).
            epsilon: with the probability epsilon any candidate, else the best; equal scores share.
        parameter: the temperature, above 0; or epsilon, from 0 (always the best) to 1.
    """

    kind: Kind
    parameter: float

    def __post_init__(self) -> None:
        low, high = (1e-6, 1e6) if self.kind == "softmax" else (0.0, 1.0)
        if not low <= self.parameter <= high:
            raise PolicyError(f"the number of {self.kind} must lie between {low:g} and {high:g}, but is {self}")

    def __str__(self) -> str:
        return f"{self.kind}={self.parameter:g}"

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """Reads softmax=TEMPERATURE or epsilon=EPSILON.

        Raises:
            PolicyError: the text is none of them.

        >>> Policy.parse("softmax=0.5")
        Policy(kind='softmax', parameter=0.5)
        """
        kind, _, number = text.partition("=")
        try:
            parameter = float(number)
        except ValueError:
            parameter = float("nan")
        for known in get_args(Kind):
            if kind == known and parameter == parameter:
                return cls(known, parameter)
        raise PolicyError(f"a policy is softmax=TEMPERATURE or epsilon=EPSILON, but was {printable(repr(text))}")

    def chances(self, scores: np.ndarray, left: np.ndarray) -> np.ndarray:
        """The chance of each candidate to take the next position.

        Args:
            scores: [R, N] click probabilities.
            left: [R, N] bool, which candidates there are and are not yet shown.

        Returns:
            [R, N], each row adding up to 1; to 0 where no candidate is left.

        >>> Policy("epsilon", 0.3).chances(np.array([[0.2, 0.9, 0.1]]), np.array([[True] * 3])).round(2)
        array([[0.1, 0.8, 0.1]])
        """
        if self.kind == "softmax":
            odds = np.where(left, log_odds(scores) / self.parameter, -np.inf)
            highest = odds.max(axis=1, keepdims=True)
            weight = np.exp(odds - np.where(np.isfinite(highest), highest, 0.0))
            return _shares(weight)
        best = left & (np.where(left, scores, -np.inf) == np.where(left, scores, -np.inf).max(axis=1, keepdims=True))
        return (1 - self.parameter) * _shares(best) + self.parameter * _shares(left)


def log_odds(scores: np.ndarray) -> np.ndarray:
    """The log odds of probabilities, which are clipped first; NaN stays NaN."""
    clipped = np.clip(scores.astype(float), SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    return np.log(clipped) - np.log1p(-clipped)


def steps(policy: Policy, scores: np.ndarray, shown: np.ndarray) -> Iterator[np.ndarray]:
    """The chances of all candidates at each position, given what is shown above it.

    Args:
        policy: that fills the lists.
        scores: [R, N] click probabilities, NaN where there is no candidate.
        shown: [R, K] int, which candidate is shown at each position; -1 where none is.

    Yields:
        [R, N] for each of the K positions.
    """
    left, rows = ~np.isnan(scores), np.arange(len(scores))
    for position in range(shown.shape[1]):
        yield policy.chances(scores, left)
        filled = shown[:, position] >= 0
        left[rows[filled], shown[filled, position]] = False


def propensities(policy: Policy, scores: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """[R, K] the chance of each shown item, given what is shown above it; 1 where nothing is shown.

    The arguments are those of `steps`.
    """
    rows = np.arange(len(shown))
    columns = [
        np.where(shown[:, position] >= 0, chances[rows, shown[:, position]], 1.0)
        for position, chances in enumerate(steps(policy, scores, shown))
    ]
    return np.stack(columns, axis=1)


def draw_lists(policy: Policy, scores: np.ndarray, positions: int, rng: np.random.Generator) -> np.ndarray:
    """[R, K] lists that a policy shows; -1 where no candidate is left.

    Args:
        policy, scores: those of `steps`.
        positions: K.
        rng: of the draw.
    """
    left, rows = ~np.isnan(scores), np.arange(len(scores))
    shown = np.full([len(scores), positions], -1)
    for position in range(positions):
        filled = left.any(axis=1)
        below = np.cumsum(policy.chances(scores, left), axis=1)
        # The last candidate with a chance, where rounding leaves the sum below the number that was drawn.
        drawn = np.minimum(rng.random(len(scores)), np.nextafter(below[:, -1], 0))
        chosen = (below <= drawn[:, None]).sum(axis=1)
        shown[filled, position] = chosen[filled]
        left[rows[filled], chosen[filled]] = False
    return shown


def _shares(weight: np.ndarray) -> np.ndarray:
    """[R, N] non-negative numbers divided by their sum in each row."""
    total = weight.sum(axis=1, keepdims=True)
    return np.divide(weight, total, out=np.zeros(weight.shape), where=total > 0)
