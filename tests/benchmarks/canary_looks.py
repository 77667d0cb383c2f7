"""How often a canary is judged wrongly by somebody who looks again and again, and how soon it is judged rightly.

python -m tests.benchmarks.canary_looks [--canaries N]

Simulated calls of users who are slow and scored high in ways of their own. Each look knows all calls so far; the first
decision that is not `wait` counts.
"""

from collections import Counter

import numpy as np
import tyro

from courier_tf.monitoring.canary import judged
from courier_tf.monitoring.canary_checks import Calls, checks_of_calls
from courier_tf.settings.monitoring import CanarySettings
from tests.monitoring.test_canary_checks import calls

LOOKS, CALLS_PER_USER = tuple(range(1000, 20_001, 1000)), 10
#: What the canary is -> how it differs.
CANARIES = {
    "alike": {},
    "errors at the border (+0.5 points)": {"failing": 0.007},
    "latency at the border (1.2 times)": {"slower": 1.2},
    "errors +2 points": {"failing": 0.022},
    "latency 1.5 times": {"slower": 1.5},
    "scores shifted by a deviation": {"shift": 1.4},
}


def first(part: Calls, number: int) -> Calls:
    """The first calls."""
    answered = int((~part.failed[:number]).sum())
    return Calls(part.user[:number], part.failed[:number], part.seconds[:number], part.scores[:answered])


def decision(stable: Calls, canary: Calls) -> tuple[str, int]:
    """The first decision that is not to wait, and the calls of each label until then."""
    for number in LOOKS:
        checks = checks_of_calls(first(stable, number), first(canary, number), CanarySettings())
        states = [judged(check, len(checks)).state for check in checks]
        if "fails" in states:
            return "withdraw", number
        if set(states) == {"passes"}:
            return "promote", number
    return "wait", LOOKS[-1]


def main(canaries: int = 200) -> None:
    """Prints a table.

    Args:
        canaries: drawn of each kind.
    """
    print(f"| canary, {len(LOOKS)} looks | promoted | withdrawn | still waiting | calls of each label, median |")
    print("|" + "---|" * 5)
    for kind, change in CANARIES.items():
        rng, size = np.random.default_rng(0), (LOOKS[-1], LOOKS[-1] // CALLS_PER_USER)
        ends = [decision(calls(rng, *size), calls(rng, *size, **change)) for _ in range(canaries)]
        shares = Counter(name for name, _ in ends)
        cells = [f"{100 * shares[name] / canaries:.1f} %" for name in ("promote", "withdraw", "wait")]
        print(f"| {kind} | {' | '.join(cells)} | {np.median([number for _, number in ends]):,.0f} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
