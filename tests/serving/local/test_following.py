"""How the local server follows its bundle: a new version when it is warm, and what is broken not at all."""

import gc
import shutil
import threading
import time
import weakref

import grpc
import pytest
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from courier_tf import schema
from serving.bundle.batching import PARAMETERS_FILE
from serving.bundle.messages import model_spec, predict_request
from serving.client import contract
from serving.client.client import CourierClient
from serving.local import loaded
from serving.local.local_server import LocalServer
from tests.servers import FEATURES


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def bundle(shop, tmp_path):
    """A bundle and models to change; returns (workdir, what makes version 2 of the ranker the canary)."""
    for folder in (schema.BUNDLE_FOLDER, schema.MODELS_FOLDER):
        shutil.copytree(shop.workdir / folder, tmp_path / folder)
    config = tmp_path / "serving" / "models.config"
    second = config.read_text().replace("versions: 1", "versions: 1 versions: 2", 1).replace("value: 1", "value: 2", 1)
    return tmp_path, lambda: write_whole(config, second.encode())


def write_whole(file, content):
    """Never half of it, which would be another fault than the one that is meant."""
    aside = file.with_suffix(".aside")
    aside.write_bytes(content)
    aside.replace(file)


def serving(workdir, **settings):
    return LocalServer(workdir / "serving", workdir / "models", poll_seconds=0.05, **settings)


def answers(server):
    """Version of the ranker that the label `canary` leads to."""
    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        request = predict_request(model_spec(contract.CTR_RANKER, label="canary"), FEATURES)
        return PredictionServiceStub(channel).Predict(request, timeout=20).model_spec.version.value


@pytest.mark.slow
def test_a_version_takes_no_traffic_before_it_is_warm(bundle, monkeypatch):
    workdir, second = bundle
    replay, begun, go_on, replayed = loaded.warmup.replay, threading.Event(), threading.Event(), []

    def slow(directory, model):
        begun.set()
        go_on.wait(60)
        replayed.append((directory.name, replay(directory, model)))

    with serving(workdir, warm_up=False) as server:
        monkeypatch.setattr(loaded.warmup, "replay", slow)
        server.models.warm_up = True
        shutil.copytree(workdir / "models" / "ctr_ranker" / "1", workdir / "models" / "ctr_ranker" / "2")
        second()
        assert begun.wait(60)
        with CourierClient(f"localhost:{server.port}", timeout_seconds=20) as client:
            assert [answers(server) for _ in range(5)] == [1] * 5
            assert client.versions(contract.CTR_RANKER) == {1: "AVAILABLE", 2: "LOADING"}
            go_on.set()
            wait_for(lambda: answers(server) == 2)
            assert client.versions(contract.CTR_RANKER) == {1: "AVAILABLE", 2: "AVAILABLE"}
    assert replayed == [("2", len(list(loaded.warmup.read(workdir / "models" / "ctr_ranker" / "1"))))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"",
        lambda whole: b"\xff\xfe\x00 no text",
        lambda whole: b"model_config_list {",
        lambda whole: whole.replace(b"ctr_ranker", b"ctr\xc3\x28ranker"),
        None,
    ],
)
def test_a_broken_configuration_is_not_followed_and_the_next_one_is(bundle, caplog, broken):
    workdir, second = bundle
    config = workdir / "serving" / "models.config"
    with serving(workdir, warm_up=False) as server:
        whole = config.read_bytes()
        if broken:
            write_whole(config, broken(whole))
        else:
            config.unlink()
        wait_for(lambda: "what is loaded stays" in caplog.text)
        assert answers(server) == 1
        shutil.copytree(workdir / "models" / "ctr_ranker" / "1", workdir / "models" / "ctr_ranker" / "2")
        second()
        wait_for(lambda: answers(server) == 2)


@pytest.mark.parametrize("error", [RuntimeError, UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), MemoryError])
@pytest.mark.slow
def test_whatever_a_look_at_the_bundle_fails_with_it_is_looked_at_again(bundle, caplog, monkeypatch, error):
    workdir, second = bundle
    with serving(workdir, warm_up=False) as server:
        refresh = server.models.refresh

        def fails():
            raise error

        monkeypatch.setattr(server.models, "refresh", fails)
        wait_for(lambda: "what is loaded stays" in caplog.text)
        monkeypatch.setattr(server.models, "refresh", refresh)
        shutil.copytree(workdir / "models" / "ctr_ranker" / "1", workdir / "models" / "ctr_ranker" / "2")
        second()
        wait_for(lambda: answers(server) == 2)


def test_a_version_that_is_dropped_leaves_the_memory(bundle):
    """At once: what Python would collect some day is some hundred MiB by then."""
    workdir, _ = bundle
    config = workdir / "serving" / "models.config"
    models = loaded.LoadedModels(config, workdir / "models", warm_up=False)
    models.refresh()
    graph = weakref.ref(models.find(model_spec(contract.CTR_RANKER))[1].graph)
    shutil.copytree(workdir / "models" / "ctr_ranker" / "1", workdir / "models" / "ctr_ranker" / "2")
    write_whole(config, config.read_bytes().replace(b"versions: 1", b"versions: 2", 1).replace(b": 1", b": 2", 2))
    gc.disable()
    try:
        models.refresh()
        assert models.find(model_spec(contract.CTR_RANKER))[0] == 2 and graph() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("content", [None, b"", b"\xff no graph"])
def test_a_version_that_cannot_be_loaded_leaves_the_others(bundle, caplog, content):
    workdir, second = bundle
    folder = workdir / "models" / "ctr_ranker" / "2"
    folder.mkdir()
    if content is not None:
        (folder / "saved_model.pb").write_bytes(content)
    with serving(workdir, warm_up=False) as server:
        second()
        with CourierClient(f"localhost:{server.port}", timeout_seconds=20) as client:
            wait_for(lambda: client.versions(contract.CTR_RANKER) == {1: "AVAILABLE", 2: "END"})
        (state,) = server.models.status(model_spec(contract.CTR_RANKER, version=2)).model_version_status
        assert state.state == ModelVersionStatus.END and state.status.error_code and state.status.error_message
        assert answers(server) == 1 and server.models.ready  # The label stays where it was.
    assert "ctr_ranker version 2 cannot be served" in caplog.text


def test_a_label_that_is_new_may_lead_to_a_version_that_is_not_there(bundle):
    """As where TensorFlow Serving starts with a canary that is broken: the others are served."""
    workdir, second = bundle
    second()  # The folder of version 2 is missing.
    with serving(workdir, warm_up=False) as server:
        with pytest.raises(grpc.RpcError) as refused:
            answers(server)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        shutil.copytree(workdir / "models" / "ctr_ranker" / "1", workdir / "models" / "ctr_ranker" / "2")
        wait_for(lambda: 2 in server.models._served[contract.CTR_RANKER].versions)
        assert answers(server) == 2


def test_a_version_that_is_no_longer_served_has_ended(bundle):
    workdir, second = bundle
    shutil.copytree(workdir / "models" / "ctr_ranker" / "1", workdir / "models" / "ctr_ranker" / "2")
    config = workdir / "serving" / "models.config"
    with serving(workdir, warm_up=False) as server:
        second()
        wait_for(lambda: answers(server) == 2)
        write_whole(config, config.read_bytes().replace(b"versions: 1", b"", 1))
        with CourierClient(f"localhost:{server.port}", timeout_seconds=20) as client:
            wait_for(lambda: client.versions(contract.CTR_RANKER) == {2: "AVAILABLE", 1: "END"})


@pytest.mark.parametrize(("parameters", "limit"), [(None, None), ("max_batch_size { value: 7 }", 7), ("", 1000)])
def test_the_rows_of_a_request_are_those_that_the_version_allows(tmp_path, parameters, limit):
    if parameters is not None:
        (tmp_path / PARAMETERS_FILE).write_text(parameters)
    assert loaded._most_rows(tmp_path) == limit


@pytest.mark.slow
def test_a_version_whose_warm_up_fails_is_not_served(bundle, caplog):
    """As TensorFlow Serving has it."""
    workdir, second = bundle
    folder = shutil.copytree(workdir / "models" / "ctr_ranker" / "1", workdir / "models" / "ctr_ranker" / "2")
    log = folder / "assets.extra" / "tf_serving_warmup_requests"
    log.write_bytes(log.read_bytes()[:-3])
    with serving(workdir, warm_up=True) as server:
        second()
        wait_for(lambda: "ctr_ranker version 2 cannot be served" in caplog.text)
        assert answers(server) == 1
