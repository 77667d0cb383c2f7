"""Off-policy estimators: from lists that one policy has shown, how many clicks another one would have got.

The value of a policy is its expected number of clicks per request. A click depends on the item, on its position and on
what stands above it, but not on what stands below: users look from the top (the cascade of Craswell et al. 2008). With
one position that assumes nothing.

- IPS: clicks weighted by how much more often the new policy shows the same (Horvitz and Thompson 1952), for each
  position by the items down to it (McInerney et al. 2020, reward interaction IPS).
- SNIPS: the same, divided by the mean weight of the position (Swaminathan and Joachims, NeurIPS 2015).
- Doubly robust: a reward model everywhere, and its errors on what was shown by IPS (Dudik, Langford and Li, ICML 2011;
  for lists Kiyohara et al., WSDM 2022). It is right where the propensities or the reward model are right.
- Direct: the reward model alone, for one position or where the weights of what stands above are carried along.
"""

import dataclasses

import numpy as np

from courier_tf.monitoring.over_users import Figure, mean_per_request, sum_of_ratios
from courier_tf.monitoring.policies import Policy, propensities, steps
from courier_tf.monitoring.reward_model import RewardModel

WRONG_LEVEL = 0.999  # Propensities are wrong where the interval of this level around a mean weight does not hold 1.


class PropensityError(ValueError):
    """Logged propensities are no chances, or their weights do not add up as they must."""


@dataclasses.dataclass(frozen=True)
class Lists:
    """R requests of U users: N candidates each, K of them shown by a logged policy.

    Attributes:
        user: [R] int, each number from 0 to U - 1 at least once.
        shown: [R, K] int, which candidate stands at each position, from the top; -1 at the end of a shorter list.
        propensity: [R, K] float, the chance with which the logged policy has chosen it, given what stands above.
        clicked: [R, K] 0 or 1.
        scores: [R, N] float, of the ranker that was served; NaN where there is no candidate.
    """

    user: np.ndarray
    shown: np.ndarray
    propensity: np.ndarray
    clicked: np.ndarray
    scores: np.ndarray

    @property
    def is_shown(self) -> np.ndarray:
        """[R, K] bool."""
        return self.shown >= 0

    def require_chances(self) -> None:
        """Refuses propensities that are no chances.

        Raises:
            PropensityError: names the first.
        """
        wrong = self.is_shown & ~((self.propensity > 0) & (self.propensity <= 1))
        if wrong.any():
            row, position = np.argwhere(wrong)[0]
            raise PropensityError(
                f"{int(wrong.sum())} propensities are no chances above 0 and up to 1: the first is "
                f"{self.propensity[row, position]:g}, at position {position + 1} of list {row + 1}"
            )


@dataclasses.dataclass(frozen=True)
class Weights:
    """How much more often a new policy shows the lists.

    Attributes:
        upto: [R, K] the ratio of the chances of all items down to a position; 0 where nothing is shown.
        above: [R, K] the same without the position itself.
    """

    upto: np.ndarray
    above: np.ndarray

    @classmethod
    def of(cls, lists: Lists, policy: Policy, scores: np.ndarray) -> "Weights":
        """The weights of a policy with [R, N] scores of its own."""
        ratio = propensities(policy, scores, lists.shown) / np.where(lists.is_shown, lists.propensity, 1.0)
        upto = np.cumprod(ratio, axis=1)
        above = np.concatenate([np.ones([len(ratio), 1]), upto[:, :-1]], axis=1)
        return cls(np.where(lists.is_shown, upto, 0.0), np.where(lists.is_shown, above, 0.0))

    def effective_size(self) -> float:
        """How many requests of the new policy would tell as much (Kish 1965), at the position that tells least.

        >>> Weights(np.array([[3.0], [1.0], [0.0]]), np.ones([3, 1])).effective_size()
        1.6
        """
        total, squares = self.upto.sum(axis=0), np.square(self.upto).sum(axis=0)
        return float(np.divide(total**2, squares, out=np.zeros(len(total)), where=squares > 0).min())

    def largest_share(self) -> float:
        """The largest share that one request has in the weights of a position."""
        total = self.upto.sum(axis=0)
        return float(np.divide(self.upto.max(axis=0), total, out=np.ones(len(total)), where=total > 0).max())

    def means(self, lists: Lists) -> list[Figure]:
        """The mean weight of each position; 1 is expected where the propensities are right."""
        shown = lists.is_shown.astype(float)
        return [
            sum_of_ratios(lists.user, self.upto[:, [position]], shown[:, [position]])
            for position in range(shown.shape[1])
        ]

    def objections(self, lists: Lists) -> list[str]:
        """Why the propensities cannot be right: mean weights that are not 1.

        The expected weight is 1 if the logged chances are true, and if the logged policy shows all that the new one
        would. One false alarm in a thousand logs is allowed for, over all positions together.
        """
        reasons = []
        means = self.means(lists)
        level = 1 - (1 - WRONG_LEVEL) / len(means)
        for position, mean in enumerate(means, 1):
            half = mean.half_width(level)
            if abs(mean.value - 1) > half + 1e-6:  # Chances are logged with a few digits.
                reasons.append(
                    f"the mean weight at position {position} is {mean.value:.4g} ({mean.value - half:.4g} to "
                    f"{mean.value + half:.4g}), and not 1"
                )
        return reasons


def ips(lists: Lists, weights: Weights) -> Figure:
    """Clicks per request by inverse propensities (Horvitz and Thompson 1952; for lists McInerney et al. 2020)."""
    return mean_per_request(lists.user, (weights.upto * lists.clicked).sum(axis=1))


def snips(lists: Lists, weights: Weights) -> Figure:
    """Clicks per request by self-normalised inverse propensities (Swaminathan and Joachims 2015).

    Each position is divided by its mean weight among the lists that have it. Where some lists are shorter, a position
    counts with the share of the lists that have it. A constant added to all clicks is added to the estimate.
    """
    shown = lists.is_shown.astype(float)
    share = shown.mean(axis=0)
    return sum_of_ratios(lists.user, weights.upto * lists.clicked * share, weights.upto)


def doubly_robust(lists: Lists, weights: Weights, expected: np.ndarray, model: RewardModel) -> Figure:
    """Clicks per request by the doubly robust estimator (Dudik, Langford and Li 2011; for lists Kiyohara et al. 2022).

    Args:
        lists, weights: those of the log.
        expected: [R, K] from `expected_clicks`.
        model: the reward model.
    """
    error = np.where(lists.is_shown, lists.clicked - model.of_shown(lists.shown), 0.0)
    return mean_per_request(lists.user, (weights.above * expected + weights.upto * error).sum(axis=1))


def direct(lists: Lists, weights: Weights, expected: np.ndarray) -> Figure:
    """Clicks per request by the reward model alone; biased where the model is wrong.

    The arguments are those of `doubly_robust`.
    """
    return mean_per_request(lists.user, (weights.above * expected).sum(axis=1))


def logged_value(lists: Lists) -> Figure:
    """Clicks per request of the logged policy, as they were counted."""
    return mean_per_request(lists.user, np.where(lists.is_shown, lists.clicked, 0).sum(axis=1).astype(float))


def expected_clicks(lists: Lists, policy: Policy, scores: np.ndarray, model: RewardModel) -> np.ndarray:
    """[R, K] clicks that a reward model expects of the new policy's item at each position, given what stands above.

    Args:
        lists: the log.
        policy, scores: the new policy and its [R, N] scores.
        model: the reward model.
    """
    columns = [
        (chances * model.everywhere(position)).sum(axis=1)
        for position, chances in enumerate(steps(policy, scores, lists.shown))
    ]
    return np.where(lists.is_shown, np.stack(columns, axis=1), 0.0)
