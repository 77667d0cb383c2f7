"""From a log of calls to a decision: promote, wait, withdraw; and logs that cannot be judged."""

import json

import grpc
import numpy as np
import pandas as pd
import pytest

from courier_tf.commands import program
from courier_tf.monitoring.canary import judge_log
from courier_tf.monitoring.canary_log import CanaryError
from courier_tf.settings.monitoring import CanarySettings
from serving.client.contract import CTR_RANKER, DEFAULT_SIGNATURE, RANK, SIMILAR_ITEMS
from serving.client.request_log import CallFacts, RequestLog

CANDIDATES = np.array([[b"i1", b"i2", b"i3", b""]], object)
NUMBER = 3000
OK, FAILED = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE


class Writer:
    """Writes calls of both labels; `shown` gets what was shown after them."""

    def __init__(self, folder, seed=0):
        self.log, self.rng, self.shown = RequestLog(folder / "log", 1.0), np.random.default_rng(seed), []
        self.folder = folder

    def rank(self, label, version, number=1, failing=0.0, seconds=0.01, power=1.0, clicked=1.0):
        """Requests of so many users; a ranker whose scores are to the `power`, and whose items are clicked so often."""
        for _ in range(number):
            user, code = self.rng.integers(10**9), FAILED if self.rng.random() < failing else OK
            chance = self.rng.beta(2, 5, size=3)
            inputs = {
                "user_id": np.array([b"%s%d" % (label.encode(), user)], object),
                "history_item_ids": np.array([[b""]], object),
                "item_id": CANDIDATES,
            }
            probability = np.append(chance**power, 0.0)[None].astype(np.float32)
            outputs = {"probability": probability, "model_version": np.array([version])} if code is OK else {}
            taken = seconds * self.rng.lognormal(0, 0.3)
            self.log.add(CTR_RANKER, RANK, inputs, outputs, CallFacts(label, code, taken, f"r{user}"))
            clicks = self.rng.random(3) < chance * clicked
            for item, click in zip(("i1", "i2", "unranked"), clicks, strict=True):
                self.shown.append({"request_id": f"r{user}", "item_id": item, "clicked": int(click)})
        return self

    def similar(self, label, version, number=1):
        """Requests without a user and without scores."""
        for place in range(number):
            outputs = {"status": np.zeros(1, np.int32), "model_version": np.array([version])}
            facts = CallFacts(label, OK, 0.01 * self.rng.lognormal(0, 0.3), f"s{place}")
            self.log.add(SIMILAR_ITEMS, DEFAULT_SIGNATURE, {"item_id": CANDIDATES[0]}, outputs, facts)
        return self

    def written(self):
        """(Log, table of what was shown)."""
        self.log.close()
        pd.DataFrame(self.shown).to_csv(self.folder / "shown.csv", index=False)
        return self.folder / "log", self.folder / "shown.csv"


def run(log, *words):
    """The exit code of the command."""
    try:
        program.main(["canary", "--log", str(log), *words])
    except SystemExit as ended:
        return ended.code
    return 0


def prometheus_values(file):
    """Series -> value of a file for Prometheus; each has its type before."""
    lines = file.read_text().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    typed = {line.split()[2] for line in lines if line.startswith("# TYPE") and line.endswith(" gauge")}
    assert {series.partition("{")[0] for series in values} == typed
    return {series: float(value) for series, value in values.items()}


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """A canary that is as good, over many users; and a model whose canary is the stable version."""
    writer = Writer(tmp_path_factory.mktemp("alike")).rank("stable", 1, NUMBER).rank("canary", 2, NUMBER)
    return writer.similar("stable", 4, 3).similar("canary", 4, 2).written()


def test_a_canary_that_is_as_good_is_promoted(alike, tmp_path, capsys):
    log, _ = alike
    assert run(log, "--out", str(tmp_path)) == 0
    report = json.loads((tmp_path / "canary.json").read_text())
    assert report["decision"] == "promote" and set(report["models"]) == {CTR_RANKER}
    model = report["models"][CTR_RANKER]
    assert (model["stable_version"], model["canary_version"], model["canary_requests"]) == (1, 2, NUMBER)
    assert [check["name"] for check in model["checks"]] == ["errors", "p50_seconds", "p99_seconds", "score_shift"]
    assert all(check["state"] == "passes" for check in model["checks"])
    assert report["limits"]["max_latency_factor"] == 1.2 and model["figures"]["score_distance"] < 0.05
    assert "**promote**" in (tmp_path / "canary.md").read_text() and "promote:" in capsys.readouterr().out


def test_clicks_are_judged_where_they_are_given(alike, tmp_path):
    log, shown = alike
    wide = ["--max-click-loss", "0.5", "--max-calibration-loss", "0.5"]  # So few users leave the AUC open.
    assert run(log, "--shown", str(shown), "--out", str(tmp_path), *wide) == 3
    model = json.loads((tmp_path / "canary.json").read_text())["models"][CTR_RANKER]
    states = {check["name"]: check["state"] for check in model["checks"]}
    assert len(states) == 7 and [name for name, state in states.items() if state != "passes"] == ["auc"]
    assert model["figures"]["stable_shown"] == 2 * NUMBER  # Items that were not ranked have no score.
    assert model["figures"]["canary_auc"] == pytest.approx(0.72, abs=0.05)
    values = prometheus_values(tmp_path / "canary.prom")
    assert values['courier_canary_decision{decision="wait"}'] == 1
    assert values['courier_canary_decision{decision="promote"}'] == 0
    for label, version in (("stable", 1), ("canary", 2)):
        labels = f'model="{CTR_RANKER}",label="{label}",version="{version}"'
        assert values[f"courier_label_requests{{{labels}}}"] == NUMBER
        for check in model["checks"]:
            if check[label] is not None:
                found = values[f'courier_label_figure{{{labels},figure="{check["name"]}"}}']
                assert found == pytest.approx(check[label], rel=1e-9)


def test_a_canary_that_fails_is_withdrawn(tmp_path, capsys):
    log, _ = Writer(tmp_path).rank("stable", 1, 1500).rank("canary", 2, 1500, failing=0.05).written()
    assert run(log) == 4
    shown = " ".join(capsys.readouterr().out.split())
    assert "withdraw: - ctr_ranker errors fails: 0 stable, 0.05" in shown


def test_a_canary_that_never_answers_is_withdrawn(tmp_path):
    log, _ = Writer(tmp_path).rank("stable", 1, 1200).rank("canary", 2, 1200, failing=1.0).written()
    report = judge_log(log, {}, (), CanarySettings())
    assert report.decision == "withdraw" and report.models[CTR_RANKER].canary_version is None


def test_clicks_that_are_lost_withdraw(tmp_path):
    writer = Writer(tmp_path).rank("stable", 1, 2000).rank("canary", 2, 2000, clicked=0.5)
    log, shown = writer.written()
    assert run(log, "--shown", str(shown), "--out", str(tmp_path)) == 4
    reasons = json.loads((tmp_path / "canary.json").read_text())["reasons"]
    assert any(reason.startswith("ctr_ranker clicks per request fails: 0.5") for reason in reasons)


def test_too_few_requests_wait(tmp_path, capsys):
    log, _ = Writer(tmp_path).rank("stable", 1, 1500).rank("canary", 2, 40, failing=1.0).similar("stable", 1).written()
    assert run(log) == 3
    shown = " ".join(capsys.readouterr().out.split())
    assert "ctr_ranker: 40 requests of 40 users to canary; 1,000 of 30 are needed" in shown
    assert run(log, "--models", SIMILAR_ITEMS) == 3
    assert "the log holds no calls to both labels" in capsys.readouterr().out


def test_one_user_is_no_comparison(tmp_path):
    writer = Writer(tmp_path).rank("stable", 1, 1100)
    for _ in range(1100):
        writer.rng = np.random.default_rng(1)
        writer.rank("canary", 2)
    report = judge_log(writer.written()[0], {}, (), CanarySettings())
    assert report.decision == "wait" and "1,100 requests of 1 users to canary" in report.reasons[0]


def test_several_models_are_judged_together(tmp_path):
    writer = Writer(tmp_path).rank("stable", 1, 1100).rank("canary", 2, 1100)
    log, _ = writer.similar("stable", 1, 1100).similar("canary", 2, 300).written()
    factor = ["--max-latency-factor", "3"]
    assert run(log, *factor) == 3 and run(log, *factor, "--models", CTR_RANKER) == 0


def test_logs_that_cannot_be_judged_are_refused(tmp_path):
    same, _ = Writer(tmp_path / "same").rank("stable", 1, 3).rank("canary", 1, 3).written()
    with pytest.raises(CanaryError, match="the canary of ctr_ranker is the stable version"):
        judge_log(same, {}, (), CanarySettings())
    mixed, _ = Writer(tmp_path / "mixed").rank("stable", 1).rank("canary", 2).rank("canary", 3).written()
    with pytest.raises(CanaryError, match=r"versions \[2, 3\] of ctr_ranker have answered as canary. Name a log that"):
        judge_log(mixed, {}, (), CanarySettings())
    assert run(mixed) == 1 and run(tmp_path / "nowhere") == 1
    assert run(same, "--max-latency-factor", "0.5") == 1
