"""New versions warm up with what a log of requests holds."""

import numpy as np
import pytest

from courier_tf.exporting import registry, warm_up_requests
from courier_tf.exporting.export import export
from courier_tf.exporting.finished_stages import FinishedStages
from serving.bundle import warmup
from serving.bundle.messages import inputs_of
from serving.bundle.warmup import WarmUpError
from serving.client import contract
from serving.client.request_log import RequestLog, RequestLogError
from tests.served_shop import IDS


def ranked(user, candidates=5):
    ids = np.array([[item.encode() for item in IDS[:candidates]]], object)
    return {"user_id": np.array([user], object), "history_item_ids": np.array([[b"", b"i001"]], object), "item_id": ids}


def log_of(folder, *requests):
    """A log of requests to `ctr_ranker`: (signature, inputs); answers play no part."""
    log = RequestLog(folder, 1.0)
    for signature, inputs in requests:
        log.add(contract.CTR_RANKER, signature, inputs, {})
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
    return [(path.parent.name, path.name) for path in export(FinishedStages.read(workdir), workdir, warm_up_log=log)]


@pytest.mark.slow
def test_what_was_asked_last_is_asked_first(workdir, tmp_path, monkeypatch):
    monkeypatch.setattr(warm_up_requests, "MOST_LOGGED", 3)
    users = [f"u{number}".encode() for number in range(5)]
    log_of(tmp_path / "log", *((contract.RANK, ranked(user)) for user in users[:2]))
    log_of(tmp_path / "log", *((contract.RANK, ranked(user)) for user in users[2:]))
    assert export_with(workdir, tmp_path / "log") == [(contract.CTR_RANKER, "2")]
    requests = warmed_up_with(workdir, contract.CTR_RANKER, "2", contract.RANK)
    for request, user in zip(requests, users[2:], strict=True):
        for name, value in ranked(user).items():
            np.testing.assert_array_equal(request[name], value)
    # No signature stays cold for lack of requests.
    made = warmed_up_with(workdir, contract.CTR_RANKER, "1", contract.DEFAULT_SIGNATURE)
    kept = warmed_up_with(workdir, contract.CTR_RANKER, "2", contract.DEFAULT_SIGNATURE)
    assert [len(request["user_id"]) for request in kept] == [len(request["user_id"]) for request in made] == [1, 8, 32]
    # The same log, and none, are no reason for another version; one with other requests is.
    assert export_with(workdir, tmp_path / "log") == export_with(workdir, None) == []
    assert export_with(workdir, log_of(tmp_path / "other", (contract.RANK, ranked(b"u7")))) == [
        (contract.CTR_RANKER, "3")
    ]
    (only,) = warmed_up_with(workdir, contract.CTR_RANKER, "3", contract.RANK)
    assert only["user_id"] == [b"u7"]


def test_a_version_is_not_loaded_after_more_than_it_can_take(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    """What a server that joins requests would refuse is left out; of the rest the newest, so many rows, or one."""
    monkeypatch.setattr(warm_up_requests, "MOST_LOGGED_ROWS", 70)
    log = RequestLog(tmp_path, 1.0)
    for model, signature, rows in (
        *((contract.IMAGE_EMBEDDER, contract.DEFAULT_SIGNATURE, rows) for rows in (64, 50, 65, 20)),
        (contract.CTR_RANKER, contract.EXAMPLES, 100),
    ):
        name = "photos" if model == contract.IMAGE_EMBEDDER else "inputs"
        log.add(model, signature, {name: np.array([b"x"] * rows, object)}, {})
    log.close()
    logged = warm_up_requests.logged_requests(tmp_path, registry.SERVED_MODELS)
    rows = {model: [len(next(iter(r.inputs.values()))) for r in requests] for model, requests in logged.items()}
    assert rows == {contract.IMAGE_EMBEDDER: [50, 20], contract.CTR_RANKER: [100]}
    assert "1 requests of" in caplog.text


@pytest.mark.parametrize(
    ("signature", "inputs", "text"),
    [
        ("best", ranked(b"u"), "signature 'best'"),
        (contract.RANK, {"user_id": np.array([b"u"], object)}, "signature 'rank'"),
        (contract.RANK, {**ranked(b"u"), "item_id": np.array([[1, 2]])}, "signature 'rank'"),
        (contract.RANK, {**ranked(b"u"), "user_id": np.array([b"u", b"v"], object)}, "signature 'rank'"),
        (contract.REGRESS, ranked(b"u"), "signature 'regress'"),
        (contract.REGRESS, {"inputs": np.array([b"\xff\xff"], object)}, "signature 'regress'"),
    ],
)
@pytest.mark.slow
def test_a_request_that_the_model_does_not_take(workdir, tmp_path, signature, inputs, text):
    log = log_of(tmp_path / "log", (contract.RANK, ranked(b"u1")), (signature, inputs))
    with pytest.raises(WarmUpError, match=f"(?s){text}"):
        export_with(workdir, log)
    assert sorted(path.name for path in (workdir / "models" / contract.CTR_RANKER).iterdir()) == ["1"]


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
