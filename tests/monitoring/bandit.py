"""Logs of lists whose truth is known: candidates and chances of a click from the simulated shop."""

import numpy as np

from courier_tf.monitoring.estimators import Lists
from courier_tf.monitoring.policies import Policy, draw_lists, log_odds, propensities, steps
from courier_tf.shop.simulate import simulate_catalogue, simulate_impressions, simulate_tastes

DISCOUNT = 0.6  # A click at the second position is so much rarer; it is rarer still below.


class Bandit:
    """Requests with N candidates each, drawn from the shop once; logs draw from them, with lists and clicks.

    Attributes:
        chance: [R, N] true chance of a click at the first position.
        logged, new: [R, N] scores of the ranker that was served, which knows no taste, and of a new one, which does.
    """

    def __init__(self, requests=400, candidates=8, users=150, seed=0, new_knows=1.0):
        rng = np.random.default_rng(seed)
        catalogue, tastes = simulate_catalogue(300, 5, 0.0, rng), simulate_tastes(users, rng)
        shown = simulate_impressions(catalogue, tastes, 5, requests, candidates, 1.0, rng)
        shape = (requests, candidates)
        self.user = np.unique(shown.user.reshape(shape)[:, 0], return_inverse=True)[1]
        self.chance = shown.probability.reshape(shape)
        self.logged = shown.probability_without_taste.reshape(shape)
        odds = new_knows * log_odds(self.chance) + (1 - new_knows) * log_odds(self.logged)
        self.new = 1 / (1 + np.exp(-odds - rng.normal(0, 0.3, shape)))

    def log(self, policy, rng, positions=1, rows=None):
        """A log of some of the requests, drawn by user: all requests of a user, as often as the user is drawn."""
        rows = self.drawn(rng) if rows is None else rows
        scores = self.logged[rows[0]]
        shown = draw_lists(policy, scores, positions, rng)
        clicked = rng.random(shown.shape) < self.clicks(rows[0], shown)
        return Lists(rows[1], shown, propensities(policy, scores, shown), clicked.astype(int), scores), rows[0]

    def drawn(self, rng):
        """(Numbers of the requests of users drawn with replacement; number of the user of each)."""
        users = self.user.max() + 1
        by_user = np.split(np.argsort(self.user, kind="stable"), np.cumsum(np.bincount(self.user))[:-1])
        parts = [by_user[user] for user in rng.integers(users, size=users)]
        return np.concatenate(parts), np.repeat(np.arange(users), [len(part) for part in parts])

    def clicks(self, rows, shown):
        """[R, K] chances of a click."""
        chance = np.take_along_axis(self.chance[rows], np.maximum(shown, 0), axis=1)
        return np.where(shown >= 0, chance * DISCOUNT ** np.arange(shown.shape[1]), 0.0)

    def value(self, policy, scores, positions=1):
        """Expected clicks per request over all requests, exactly, for one or two positions."""
        none = np.full([len(scores), 1], -1)
        first = next(steps(policy, scores, none))
        value = (first * self.chance).sum(axis=1)
        if positions == 2:
            for item in range(scores.shape[1]):
                above = np.stack([np.full(len(scores), item), none[:, 0]], axis=1)
                second = list(steps(policy, scores, above))[1]
                value += first[:, item] * DISCOUNT * (second * self.chance).sum(axis=1)
        return float(value.mean())


LOGGED, NEW = Policy("softmax", 1.0), Policy("softmax", 0.7)
