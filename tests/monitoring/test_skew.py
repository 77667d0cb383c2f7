"""Skew between a log of requests and training: none where nothing was changed, and skew that was put in."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from courier_tf.commands.skew import skew as show_skew
from courier_tf.monitoring import skew
from courier_tf.monitoring.skew import Scores, SkewError, compare_log
from courier_tf.settings.monitoring import DriftSettings
from courier_tf.workdir.artefacts import ArtefactError
from serving.client.request_log import RequestLog, read_log
from tests.sealing import seal_description
from tests.servers import write_log


@pytest.fixture
def train_like_valid(monkeypatch):
    """The small shop has valid impressions alone."""
    batches = skew.impression_batches
    monkeypatch.setattr(skew, "impression_batches", lambda ingest, _, **words: batches(ingest, "valid", **words))


def show(shop, log, shown=None, out=None, limits=DriftSettings()):  # noqa: B008 (frozen)
    return show_skew(shop.workdir, log, shown, limits, out)


def test_no_skew_where_nothing_was_changed(shop, server, tmp_path, train_like_valid, capsys):
    report = show(shop, write_log(server.port, tmp_path / "log")).skew
    assert report.scores == Scores((1,), 32, 0, pytest.approx(0, abs=1e-5), 0.0)
    log = report.log_features
    assert log["pairs"] == 32 and log["users_that_the_ranker_does_not_know"] == pytest.approx(1 / 32)
    assert log["items_not_in_the_catalogue"] == pytest.approx(1 / 32)
    assert log["without_history"] == pytest.approx(6 / 32)
    assert log["mean_history_length"] == pytest.approx((5 * (1 + 2 + 3 + 4 + 4) + 4) / 32)
    shown = " ".join(capsys.readouterr().out.split())
    assert "scores compared" in shown and "items that stay in a cluster which is not the nearest: 1. " in shown


def test_where_it_is_known_what_was_shown_that_alone_counts(shop, server, tmp_path, train_like_valid):
    """The first two candidates of each user were shown, the second was clicked; a request of two users is left out."""
    log, rows = write_log(server.port, tmp_path / "log"), []
    for logged in read_log(log):
        if logged.request.signature == "rank":
            items = logged.request.inputs["item_id"][0, :2]
            rows += [
                {"request_id": logged.request_id, "item_id": i.decode(), "clicked": n} for n, i in enumerate(items)
            ]
    pd.DataFrame(rows).to_csv(tmp_path / "shown.csv", index=False)
    report = show(shop, log, tmp_path / "shown.csv", tmp_path / "out")
    assert report.skew.scores.compared == 32 and report.skew.users == 6
    features = report.skew.log_features
    assert features["pairs"] == 12 and features["share_of_clicks"] == 0.5
    assert features["items_not_in_the_catalogue"] == 0
    written = json.loads((tmp_path / "out" / "skew.json").read_text())
    assert written["judged"] is False and written["skew"]["log_features"]["pairs"] == 12
    assert "drift is not judged: 6 users" in (tmp_path / "out" / "skew.md").read_text()
    told = (tmp_path / "out" / "skew.prom").read_text()
    assert "\ncourier_drift_judged 0\n" in told and 'courier_drift_change{feature="scores"} ' in told
    with pytest.raises(SystemExit) as ended:
        show(shop, log, tmp_path / "shown.csv", limits=DriftSettings(drift_min_users=1, max_history_factor=1.0))
    assert ended.value.code == 3
    (tmp_path / "other.csv").write_text("request_id,item_id,clicked\nnone,i001,0\n")
    with pytest.raises(SkewError, match="holds no request to ctr_ranker of what was shown"):
        show(shop, log, tmp_path / "other.csv")


def test_skew_of_parts_that_do_not_belong_together(workdir):
    file = workdir / "cluster" / "artefact.json"
    content = json.loads(file.read_text())
    encoder, content["facts"]["encoder"] = content["facts"]["encoder"], "another"
    file.write_text(json.dumps(content))
    seal_description(file.parent)
    with pytest.raises(ArtefactError, match=f"cluster belongs to the encoder another, but .*pretrain holds {encoder}"):
        compare_log(workdir, workdir / "log")


def test_a_ranker_with_hashed_users_knows_no_unknown_ones(shop, server, tmp_path, train_like_valid, monkeypatch):
    plan = skew.load_plan(shop.stages.ranker)
    hashed = plan._replace(architecture=dataclasses.replace(plan.architecture, user_buckets=7))
    monkeypatch.setattr(skew, "load_plan", lambda _: hashed)
    report = compare_log(shop.workdir, write_log(server.port, tmp_path / "log"))
    for features in (report.log_features, report.train_features):
        assert "users_that_the_ranker_does_not_know" not in features
        assert features["items_not_in_the_catalogue"] <= 1 / 32


def test_skew_of_scores_is_told(shop, server, tmp_path, train_like_valid):
    """One logged history lacks what the server was asked with: as if features were built otherwise there."""
    log = RequestLog(tmp_path / "log", 1.0)
    for number, record in enumerate(read_log(write_log(server.port, tmp_path / "true"))):
        inputs = dict(record.request.inputs)
        if number == 5:
            inputs["history_item_ids"] = np.full_like(inputs["history_item_ids"], b"")
        log.add(record.model, record.request.signature, inputs, record.outputs)
    log.close()
    with pytest.raises(SkewError, match=r"15\.6 % of the 32 scores of version \[1\] differ"):
        show(shop, tmp_path / "log")
    empty = RequestLog(tmp_path / "empty", 0.0)
    empty.close()
    with pytest.raises(SkewError, match="holds no request to ctr_ranker"):
        compare_log(shop.workdir, tmp_path / "empty")
