"""A reward model: the chance of a click on any candidate at any position, learned from what was shown.

It is cross-fitted (Chernozhukov et al., The Econometrics Journal 21, 2018): a user is predicted by a model that has not
seen the user, so that the doubly robust estimate stays unbiased.
"""

import dataclasses

import numpy as np
from sklearn.linear_model import LogisticRegression

FOLDS = 5
SEED = 17  # Of the draw of the folds.


@dataclasses.dataclass(frozen=True)
class RewardModel:
    """Log odds of a click: of the candidate, plus of the position.

    Attributes:
        candidate: [R, N]; NaN where there is no candidate.
        position: [R, K].
    """

    candidate: np.ndarray
    position: np.ndarray

    def everywhere(self, position: int) -> np.ndarray:
        """[R, N] chances of a click at a position; 0 where there is no candidate."""
        return np.nan_to_num(_sigmoid(self.candidate + self.position[:, [position]]))

    def of_shown(self, shown: np.ndarray) -> np.ndarray:
        """[R, K] chances of a click on the shown candidates; `shown` is that of `Lists`."""
        rows = np.arange(len(shown))[:, None]
        return np.nan_to_num(_sigmoid(self.candidate[rows, np.maximum(shown, 0)] + self.position))


def cross_fitted(user: np.ndarray, shown: np.ndarray, clicked: np.ndarray, features: np.ndarray) -> RewardModel:
    """Fits logistic regressions on features of the candidates and on the position.

    Args:
        user: [R] int, each number from 0 to U - 1 at least once.
        shown, clicked: [R, K], those of `Lists`.
        features: [R, N, F] of the candidates, NaN where there is none.
    """
    requests, positions = shown.shape
    users = int(user.max()) + 1
    fold = (np.random.default_rng(SEED).permutation(users) % min(FOLDS, max(users, 2)))[user]
    candidate, of_position = np.full(features.shape[:2], np.nan), np.zeros([requests, positions])
    filled = shown >= 0
    row, place = np.nonzero(filled)
    inputs = np.concatenate([features[row, shown[filled]], np.eye(positions)[place]], axis=1)
    known = ~np.isnan(features).any(axis=2)
    for held_out in np.unique(fold):
        here, others = fold == held_out, fold[row] != held_out
        slope, intercepts = _fit(inputs[others], clicked[filled][others], positions)
        candidate[here] = np.where(known[here], np.nan_to_num(features[here]) @ slope, np.nan)
        of_position[here] = intercepts
    return RewardModel(candidate, of_position)


def _fit(inputs: np.ndarray, clicked: np.ndarray, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """([F] slopes, [K] log odds of the positions); the mean click rate where nothing can be learned."""
    width = inputs.shape[1] - positions
    if not 0 < clicked.sum() < len(clicked):
        mean = (clicked.sum() + 0.5) / (len(clicked) + 1)
        return np.zeros(width), np.full(positions, np.log(mean / (1 - mean)))
    fitted = LogisticRegression(solver="newton-cholesky").fit(inputs, clicked)
    return fitted.coef_[0, :width], fitted.coef_[0, width:] + fitted.intercept_[0]


def _sigmoid(log_odds: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-log_odds))
