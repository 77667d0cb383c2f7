"""The ladder: each rung over those below it, by held-out score and by the best visual feature in the ranker."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from courier_tf.experiment.run_grid import run_grid
from courier_tf.pretrain.impression_scores import SCORES_FILE, ImpressionScores
from courier_tf.settings import SettingsError
from tests.experiment.conftest import GRID, TINY

LADDER = dataclasses.replace(
    GRID,
    blocks=[{"clusters": [4, 8], "temperature": [0.2, 0.9]}, {"clusters": [16]}],
    tuned=["temperature"],
    fixed={"rank_modes": ["none", "cluster_id", "vector"]},
    ladder={"low": "clusters=4", "middle": "clusters=8", "high": "clusters=16"},
)
RUNS = {"low": "clusters=4,temperature=0.2", "middle": "clusters=8,temperature=0.2", "high": "clusters=16"}


def cells_of(text, rung):
    """The cells of a rung in the first table."""
    return next(line.split("|")[1:-1] for line in text.splitlines() if line.startswith(f"| {rung} | 2 |"))


@pytest.mark.parametrize("final", [False, True])
def test_rungs_are_compared_with_those_below_them(tmp_path, stand_in, final):
    run_grid(LADDER, "raw", tmp_path, TINY, final=final)
    work = tmp_path / "mine" / ("test" if final else "valid")
    frame = pd.read_csv(work / "ladder.csv")
    assert len(frame) == 2 * (1 + 2 + 3) and set(frame["seeds"]) == {2}
    assert set(frame["mode"]) == {"vector"}, "as the stand-in's gains on valid say, on either span"
    gains = frame.set_index(["figure", "rung", "less"])["gain"]
    held_out, predicted = {}, {}
    for rung, variant in RUNS.items():
        for seed in (0, 1):
            place = work / "runs" / f"{variant},seed={seed}"
            scores = ImpressionScores.read(place / "pretrain" / SCORES_FILE)
            held_out.setdefault(rung, []).append(scores.auc("mean", new_to_user=True))
            part = stand_in.slices["new_to_user"]
            with np.load(place / "predictions.npz") as of_run:
                aucs = {m: roc_auc_score(stand_in.clicked[part], of_run[m][0, part]) for m in ("none", "vector")}
            predicted.setdefault(rung, []).append(aucs)
    assert gains["held-out score", "low", "no visual feature"] == pytest.approx(np.mean(held_out["low"]) - 0.5)
    difference = np.mean(held_out["high"]) - np.mean(held_out["middle"])
    assert gains["held-out score", "high", "middle"] == pytest.approx(difference) and difference > 0.02
    over_none = np.mean([aucs["vector"] - aucs["none"] for aucs in predicted["high"]])
    assert gains["ranker", "high", "no visual feature"] == pytest.approx(over_none)
    text = (work / "results.md").read_text()
    middle, high = cells_of(text, "middle"), cells_of(text, "high")
    assert middle[2].strip().startswith(f"{100 * np.mean(held_out['middle']):.2f} (")
    assert high[3].strip().startswith(f"{100 * difference:+.2f} (") and high[4].strip() == "vector"
    assert high[5].strip().startswith(f"{100 * over_none:+.2f} (")
    assert (work / "ladder.png").stat().st_size > 5000
    assert "| no visual feature |  | 50.00 |" in text


def test_without_rankers_encoders_alone_are_told(tmp_path, stand_in):
    run_grid(LADDER, "raw", tmp_path, TINY, until="pretrain")
    frame = pd.read_csv(tmp_path / "mine" / "valid" / "ladder.csv")
    assert set(frame["figure"]) == {"held-out score"} and len(frame) == 1 + 2 + 3
    assert "best visual feature" not in (tmp_path / "mine" / "valid" / "results.md").read_text()


def test_rankers_of_one_seed_stand_beside_encoders_of_two(tmp_path, stand_in):
    """As when `--until pretrain` adds seeds later: the new runs have no predictions."""
    one = dataclasses.replace(LADDER, seeds=[0])
    run_grid(one, "raw", tmp_path, TINY)
    work = tmp_path / "mine" / "valid"
    before = pd.read_csv(work / "ladder.csv").set_index("figure")
    run_grid(LADDER, "raw", tmp_path, TINY, until="pretrain")
    frame = pd.read_csv(work / "ladder.csv").set_index("figure")
    assert set(frame.loc["held-out score", "seeds"]) == {2} and set(frame.loc["ranker", "seeds"]) == {1}
    assert frame.loc["ranker", "gain"].tolist() == pytest.approx(before.loc["ranker", "gain"].tolist())


def test_a_rung_that_is_another_one_is_refused(tmp_path, stand_in):
    clusters = TINY.cluster.clusters
    grid = dataclasses.replace(
        GRID, blocks=[{}, {"clusters": [clusters]}], ladder={"low": "default", "high": f"clusters={clusters}"}
    )
    with pytest.raises(SettingsError, match="the rung high has the same settings as another variant"):
        run_grid(grid, "raw", tmp_path, TINY)
