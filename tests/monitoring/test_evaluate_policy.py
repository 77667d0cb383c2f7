"""From a log of requests and a table of shown items to the estimates, with a function in the place of a ranker."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from courier_tf.commands import program
from courier_tf.monitoring.estimators import PropensityError
from courier_tf.monitoring.logged_lists import read_lists
from courier_tf.monitoring.policies import Policy, draw_lists, propensities
from courier_tf.monitoring.shown import ShownError, read_shown
from serving.client.contract import CTR_RANKER, RANK
from serving.client.request_log import CallFacts, RequestLog

LOGGED, REQUESTS = Policy("softmax", 1.0), 300
ITEMS = np.array([[f"i{number:03d}".encode() for number in range(8)]], object)


class StandIn:
    """Scores a candidate by the digits of its id and of the user's."""

    def __init__(self, _=None):
        inputs = dict.fromkeys(("user_id", "history_item_ids", "item_id", "device"))
        self.signatures = {RANK: SimpleNamespace(inputs=inputs)}

    def run(self, signature, inputs):
        """A ranker with a context column, which the logged one did not have."""
        assert signature == RANK
        if "device" in inputs:  # The logged ranker is made of this class, too.
            assert inputs["device"].tolist() == [b""] * len(inputs["user_id"])
        number = np.vectorize(lambda name: int(name[1:] or b"0"))
        odds = np.sin(number(inputs["item_id"]) * 7.1 + number(inputs["user_id"])[:, None])
        probability = np.where(inputs["item_id"] == b"", 0, 1 / (1 + np.exp(-odds))).astype(np.float32)
        return {"probability": probability, "model_version": np.ones(len(probability), np.int64)}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Holds version 1 of `ctr_ranker`, by name."""
    (tmp_path / "work" / "models" / CTR_RANKER / "1").mkdir(parents=True)
    monkeypatch.setattr("courier_tf.commands.evaluate_policy.GraphModel", StandIn)
    return tmp_path / "work"


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """(Log, table of what was shown): clicks do not depend on the item; every tenth request was shown to nobody."""
    folder, rng = tmp_path_factory.mktemp("policy"), np.random.default_rng(0)
    log, rows = RequestLog(folder / "log", 1.0), []
    for number in range(REQUESTS):
        inputs = {
            "user_id": np.array([b"u%d" % rng.integers(60)], object),
            "history_item_ids": np.array([[b"", b"i%03d" % rng.integers(50)]], object),
            "item_id": np.pad(rng.permutation(ITEMS[0])[None], [(0, 0), (0, number % 2)], constant_values=b""),
        }
        outputs = StandIn().run(RANK, inputs)
        log.add(CTR_RANKER, RANK, inputs, outputs, CallFacts("stable", request_id=f"r{number}"))
        served = outputs["probability"][:, :8]
        shown = draw_lists(LOGGED, served, 2, rng)
        chances = propensities(LOGGED, served, shown)[0]
        for position, (item, chance) in enumerate(zip(shown[0], chances, strict=True)):
            row = {"request_id": f"r{number}", "item_id": inputs["item_id"][0, item].decode(), "position": position}
            rows.append(row | {"clicked": int(rng.random() < 0.4), "propensity": chance})
    log.close()
    table = pd.DataFrame([row for row in rows if int(row["request_id"][1:]) % 10])
    table.to_csv(folder / "shown.csv", index=False)
    return folder / "log", folder / "shown.csv", table


def run(place, log, table, *words):
    program.main(["evaluate-policy", "--workdir", str(place), "--log", str(log), "--shown", str(table), *words])


def test_the_ranker_that_was_served_with_its_policy_gains_nothing(place, logged, tmp_path, capsys):
    log, file, table = logged
    run(place, log, file, "--policy", str(LOGGED), "--out", str(tmp_path))
    report = json.loads((tmp_path / "evaluate_policy.json").read_text())
    counted = table["clicked"].sum() / (REQUESTS * 0.9)
    assert report["requests"] == REQUESTS * 0.9 and report["positions"] == 2
    assert report["logged"]["clicks_per_request"] == pytest.approx(counted)
    for name in ("ips", "snips"):
        assert report["estimates"][name]["gain"] == pytest.approx(0, abs=1e-4)
    assert report["effective_size"] == pytest.approx(REQUESTS * 0.9, rel=1e-3)
    assert "gain over the logged policy" in (tmp_path / "evaluate_policy.md").read_text()
    assert "effective sample size 270 of 270 requests" in capsys.readouterr().out


def test_the_policy_is_as_good_as_the_propensities_that_it_would_log(place, logged, tmp_path):
    log, file, table = logged
    bare = tmp_path / "bare.csv"
    table.drop(columns="propensity").to_csv(bare, index=False)
    for name, source in (("a", file), ("b", bare)):
        run(
            place,
            log,
            source,
            "--policy",
            "epsilon=0.5",
            "--logged-policy",
            str(LOGGED),
            "--out",
            str(tmp_path / name),
        )
    first, second = (json.loads((tmp_path / name / "evaluate_policy.json").read_text()) for name in "ab")
    assert first == second and first["estimates"]["ips"]["gain"] != 0
    with pytest.raises(SystemExit, match="has no column propensity: add it, or name the policy by --logged-policy"):
        run(place, log, bare, "--policy", "epsilon=0.5")


def test_a_policy_that_was_not_the_logged_one_is_refused(place, logged):
    with pytest.raises(SystemExit, match=r"logged propensities are not those of softmax=2: at position 1 of list 1"):
        run(place, *logged[:2], "--policy", "epsilon=0.5", "--logged-policy", "softmax=2")


def test_positions_beyond_those_asked_for_do_not_count(logged):
    log, file, table = logged
    shown = read_shown(file)
    both, first = (read_lists(log, shown, scores, positions, None).lists for positions in (0, 1))
    assert both.shown.shape[1] == 2 and first.shown.shape[1] == 1
    assert first.clicked.sum() == table["clicked"][table["position"] == 0].sum()
    np.testing.assert_array_equal(first.shown[:, 0], both.shown[:, 0])


def test_what_does_not_fit_the_log_is_refused(logged):
    log, file, _ = logged
    shown = read_shown(file)
    strange = shown["r1"]._replace(items=(b"i059", b"i058"))
    with pytest.raises(ShownError, match=r"request r1 has shown .*i059.*, which was no candidate of it"):
        read_lists(log, {**shown, "r1": strange}, scores, 0, None)
    with pytest.raises(ShownError, match="have no request in common"):
        read_lists(log, {"other": strange}, scores, 0, None)
    impossible = shown["r1"]._replace(propensity=np.array([0.5, 1.2]))
    with pytest.raises(PropensityError, match="1 propensities are no chances .* 1.2, at position 2 of list 1"):
        read_lists(log, {**shown, "r1": impossible}, scores, 0, None)


def test_a_version_that_is_not_there_is_refused(place, logged):
    with pytest.raises(SystemExit, match="holds no version 7 of ctr_ranker: run 'courier export' first"):
        run(place, *logged[:2], "--policy", "epsilon=0.5", "--ranker-version", "7")


def scores(request):
    return StandIn().run(request.signature, request.inputs)["probability"]
