"""`make gpu-check` where there is no GPU: its parts in small, and the whole of it."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.benchmarks.gpu import __main__ as check
from tests.benchmarks.gpu.cases import Learning, learning, rows, shop

ROOT = Path(__file__).parents[1]
SMALL = Learning("micro", 32, 8, 6)


def test_a_click_is_of_the_kind_of_the_history():
    _, kinds = shop(8)
    page_view, history, clicked = next(rows(kinds, 50))
    assert (kinds[page_view[clicked]] == kinds[history[:, 0]]).all() and (clicked.sum(axis=1) == 1).all()
    assert (kinds[history] == kinds[history[:, :1]]).all()


@pytest.mark.slow
def test_photos_of_the_host_and_of_the_device_teach_the_same():
    host = learning(SMALL)
    device = learning(dataclasses.replace(SMALL, photos="device", streams=2))
    assert np.isclose(host["loss"], device["loss"], rtol=1e-3) and host["rows"] > 0 and host["input"] > 0
    assert (host["gib"] == -1) == (not tf.config.list_physical_devices("GPU"))


def test_a_loss_that_leaves_that_of_float32_is_a_fault(monkeypatch):
    losses = {"float32": 2.0, "tf32": 2.03, "mixed_bfloat16": 2.05, "mixed_float16": float("nan")}
    told = {"rows": 1.0, "input": 1.0, "busy": -1.0, "gib": -1.0}
    monkeypatch.setattr(check, "measured", lambda case: {"loss": losses[case.precision], **told})
    faults = []
    lines = list(check.learnings(SMALL, faults))
    assert [fault.split(",")[0] for fault in faults] == ["mixed_bfloat16", "mixed_float16"]
    assert len(lines) == 2 + 7 and "-1" not in "".join(lines)


@pytest.mark.slow
def test_the_whole_check_on_the_cpu(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu", str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    page = (tmp_path / "out" / "gpu.md").read_text()
    if not tf.config.list_physical_devices("GPU"):
        assert page.startswith("This machine has no GPU")
    assert page.count("\n| ") >= 7 + 4 and "The tiny chain took" in page
