"""New versions warm up with what a log of requests holds."""

import numpy as np
import pytest

from courier_tf import schema
from courier_tf.exporting import warm_up_requests
from courier_tf.exporting.export import export
from courier_tf.exporting.finished_stages import Stages
from serving.bundle import warmup
from serving.bundle.messages import inputs_of
from serving.bundle.warmup import WarmUpError
from serving.client.request_log import RequestLog, RequestLogError
from tests.served_shop import IDS


def ranked(user, candidates=5):
    ids = np.array([[item.encode() for item in IDS[:candidates]]], object)
    return {"user_id": np.array([user], object), "history_item_ids": np.array([[b"", b"i001"]], object), "item_id": ids}


def log_of(folder, *asked):
    """A log of requests to `ctr_ranker`: (signature, inputs); answers play no part."""
    log = RequestLog(folder, 1.0)
    for signature, inputs in asked:
        log.add(schema.CTR_RANKER, signature, inputs, {})
    log.close()
    return log.file


def warmed_up_with(workdir, model, version, signature):
    """The predict requests in a version."""
    logs = [
        log.predict_log.request
        for log in warmup.read(workdir / "models" / model / version)
        if log.HasField("predict_log")
    ]
    return [inputs_of(request) for request in logs if request.model_spec.signature_name == signature]


def export_with(workdir, log):
    return [(path.parent.name, path.name) for path in export(Stages.read(workdir), workdir, warm_up_log=log)]


def test_what_was_asked_last_is_asked_first(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(warm_up_requests, "MOST_LOGGED", 3)
    users = [f"u{number}".encode() for number in range(5)]
    log_of(tmp_path / "log", *((schema.RANK, ranked(user)) for user in users[:2]))
    log_of(tmp_path / "log", *((schema.RANK, ranked(user)) for user in users[2:]))
    assert export_with(workdir, tmp_path / "log") == [(schema.CTR_RANKER, "2")]
    asked = warmed_up_with(workdir, schema.CTR_RANKER, "2", schema.RANK)
    for found, user in zip(asked, users[2:], strict=True):
        for name, value in ranked(user).items():
            np.testing.assert_array_equal(found[name], value)
    # No signature stays cold for lack of warm_up_requests.
    made = warmed_up_with(workdir, schema.CTR_RANKER, "1", schema.DEFAULT_SIGNATURE)
    kept = warmed_up_with(workdir, schema.CTR_RANKER, "2", schema.DEFAULT_SIGNATURE)
    assert [len(one["user_id"]) for one in kept] == [len(one["user_id"]) for one in made] == [1, 8, 32]
    # The same log, and none, are no reason for another version; one with other requests is.
    assert export_with(workdir, tmp_path / "log") == export_with(workdir, None) == []
    assert export_with(workdir, log_of(tmp_path / "other", (schema.RANK, ranked(b"u7")))) == [(schema.CTR_RANKER, "3")]
    (only,) = warmed_up_with(workdir, schema.CTR_RANKER, "3", schema.RANK)
    assert only["user_id"] == [b"u7"]


def test_a_version_is_not_loaded_after_more_than_it_can_take(tmp_path, monkeypatch, capsys):
    """What a server that joins requests would refuse is left out; of the rest the newest, so many rows, or one."""
    monkeypatch.setattr(warm_up_requests, "MOST_LOGGED_ROWS", 70)
    log = RequestLog(tmp_path, 1.0)
    for model, signature, rows in (
        *((schema.IMAGE_EMBEDDER, schema.DEFAULT_SIGNATURE, rows) for rows in (64, 50, 65, 20)),
        (schema.CTR_RANKER, schema.EXAMPLES, 100),
    ):
        name = "photos" if model == schema.IMAGE_EMBEDDER else "inputs"
        log.add(model, signature, {name: np.array([b"x"] * rows, object)}, {})
    log.close()
    found = warm_up_requests.logged_requests(tmp_path)
    rows = {model: [len(next(iter(one.inputs.values()))) for one in asked] for model, asked in found.items()}
    assert rows == {schema.IMAGE_EMBEDDER: [50, 20], schema.CTR_RANKER: [100]}
    assert "1 requests of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("signature", "inputs", "text"),
    [
        ("best", ranked(b"u"), "signature 'best'"),
        (schema.RANK, {"user_id": np.array([b"u"], object)}, "signature 'rank'"),
        (schema.RANK, {**ranked(b"u"), "item_id": np.array([[1, 2]])}, "signature 'rank'"),
        (schema.RANK, {**ranked(b"u"), "user_id": np.array([b"u", b"v"], object)}, "signature 'rank'"),
        (schema.REGRESS, ranked(b"u"), "signature 'regress'"),
        (schema.REGRESS, {"inputs": np.array([b"\xff\xff"], object)}, "signature 'regress'"),
    ],
)
def test_a_request_that_the_model_does_not_take(workdir, tmp_path, signature, inputs, text):
    log = log_of(tmp_path / "log", (schema.RANK, ranked(b"u1")), (signature, inputs))
    with pytest.raises(WarmUpError, match=f"(?s){text}"):
        export_with(workdir, log)
    assert sorted(path.name for path in (workdir / "models" / schema.CTR_RANKER).iterdir()) == ["1"]


def test_a_log_that_is_none(workdir, tmp_path):
    log = log_of(tmp_path / "log")
    with pytest.raises(RequestLogError, match="holds no request that a server could warm up with"):
        export_with(workdir, log)
    log.write_bytes(b"x" * 50)
    with pytest.raises(RequestLogError, match="is broken"):
        export_with(workdir, log)
    with pytest.raises(RequestLogError, match="does not exist"):
        export_with(workdir, tmp_path / "nothing")
    other = RequestLog(tmp_path / "other", 1.0)
    other.add("mine", "s", {}, {})
    other.close()
    with pytest.raises(RequestLogError, match="a request to 'mine'"):
        export_with(workdir, tmp_path / "other")
