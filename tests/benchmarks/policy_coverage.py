"""How often the intervals of off-policy estimates hold the truth, on logs drawn from the simulated shop.

python -m tests.benchmarks.policy_coverage [--logs N]

The users of each log are drawn anew; the truth is the expectation over all requests. A few minutes on one core.
"""

import numpy as np
import tyro

from courier_tf.monitoring.estimators import Weights, doubly_robust, expected_clicks, ips, snips
from courier_tf.monitoring.policies import Policy, log_odds
from courier_tf.monitoring.reward_model import cross_fitted
from tests.monitoring.bandit import Bandit

#: Positions, the logged policy, the new one.
CASES = (
    (1, "softmax=1", "softmax=0.7"),
    (2, "softmax=1", "softmax=0.7"),
    (1, "softmax=1", "epsilon=0.1"),
    (1, "epsilon=0.3", "epsilon=0.1"),
    (1, "softmax=0.3", "softmax=0.3"),
)


def main(logs: int = 1000, requests: int = 1500, candidates: int = 8, users: int = 500) -> None:
    """Prints a table.

    Args:
        logs: drawn for each case.
        requests, candidates, users: of the shop that they are drawn from.
    """
    bandit = Bandit(requests, candidates, users)
    print(
        "| positions | logged, new | effective size | refused | estimate | truth | bias / error | deviation | covered |"
    )
    print("|" + "---|" * 9)
    for positions, logged, new in CASES:
        measure(bandit, positions, Policy.parse(logged), Policy.parse(new), logs)


def measure(bandit: Bandit, positions: int, logged: Policy, new: Policy, logs: int) -> None:
    """Prints the rows of a case."""
    rng, truth = np.random.default_rng(1), bandit.value(new, bandit.new, positions)
    values: dict[str, list[float]] = {"ips": [], "snips": [], "doubly robust": []}
    held, sizes, refused = dict.fromkeys(values, 0), [], 0
    for _ in range(logs):
        lists, rows = bandit.log(logged, rng, positions)
        scores = bandit.new[rows]
        weights = Weights.of(lists, new, scores)
        features = np.stack([log_odds(scores), log_odds(lists.scores)], axis=2)
        model = cross_fitted(lists.user, lists.shown, lists.clicked, features)
        expected = expected_clicks(lists, new, scores, model)
        figures = (ips(lists, weights), snips(lists, weights), doubly_robust(lists, weights, expected, model))
        for name, figure in zip(values, figures, strict=True):
            values[name].append(figure.value)
            held[name] += abs(figure.value - truth) <= figure.half_width()
        sizes.append(weights.effective_size())
        refused += bool(weights.objections(lists))
    for name, value in values.items():
        spread = float(np.std(value))
        cells = [str(positions), f"{logged}, {new}", f"{np.mean(sizes):.0f}", f"{refused}", name, f"{truth:.4f}"]
        cells += [f"{(np.mean(value) - truth) / spread * np.sqrt(logs):+.1f}", f"{spread:.4f}"]
        print(f"| {' | '.join(cells)} | {100 * held[name] / logs:.1f} % |", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
