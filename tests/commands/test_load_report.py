"""The figures of a load test, by NumPy."""

import numpy as np
import pytest

from courier_tf.commands.load_report import Sent, summarise


def test_figures_by_numpy():
    rng = np.random.default_rng(0)
    latency = rng.exponential(0.01, 200)
    sent = [Sent("ab"[n % 2], n / 100, value, "OK" if n % 10 else "UNAVAILABLE") for n, value in enumerate(latency)]
    summary = summarise(sent, 2.0)
    good = np.array([n % 10 != 0 for n in range(200)])
    for p in (50, 95, 99):
        assert summary["all"][f"p{p}_ms"] == pytest.approx(1000 * np.percentile(latency[good], p))
    assert summary["all"]["errors"] == {"UNAVAILABLE": 20} and summary["all"]["requests"] == 200
    assert summary["all"]["answers_per_second"] == pytest.approx(90)  # Of two seconds.
    assert summary["a"]["requests"] == 100 and summary["b"]["errors"] == {}
    assert summarise([Sent("a", 0, 1, "INTERNAL")], 1.0)["a"]["p50_ms"] is None
    behind = summarise([Sent("a", 0, 0.1, "OK"), Sent("a", 1, 3, "OK")], 2.0)
    assert behind["a"]["answers_per_second"] == pytest.approx(2 / 4)  # The last answer came after four seconds.
