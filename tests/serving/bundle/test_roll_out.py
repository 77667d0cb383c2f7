"""New versions on a server that is as strict as TensorFlow Serving: labels never move to what is not loaded."""

import time

import pytest
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from courier_tf.exporting.promotion import promote, roll_back
from courier_tf.settings import PromotionSettings
from serving.bundle import roll_out as rolling
from serving.bundle.releases import ReleaseError
from serving.bundle.roll_out import RollOutError, next_step
from serving.client.client import CourierClient
from tests.served_shop import export_again, write_rank
from tests.servers import STAND_IN, StrictServer, running

LENIENT = PromotionSettings(auc_tolerance=1.0, calibration_tolerance=100.0, accept=("auc", "calibration", "collapse"))


def config(versions, labels):
    made = ModelServerConfig()
    model = made.model_config_list.config.add()
    model.name = "m"
    model.model_version_policy.specific.versions.extend(versions)
    for label, version in labels.items():
        model.version_labels[label] = version
    return made


ONE, TWO = {"stable": 1, "canary": 1}, {"stable": 1, "canary": 2}


@pytest.mark.parametrize(
    ("target", "now", "loaded", "step"),
    [
        (([1], {"canary": 1}), ([], {}), set(), ([1], {"canary": 1})),  # Nothing is in use yet.
        (([1, 2], TWO), ([1], ONE), {1}, ([1, 2], ONE)),  # The canary has to wait,
        (([1, 2], TWO), ([1, 2], ONE), {1, 2}, ([1, 2], TWO)),  # and does not any more.
        # A version is kept for as long as a label has not left it.
        (([2, 3], {"stable": 3}), ([1, 2], {"stable": 1}), {1, 2}, ([1, 2, 3], {"stable": 1})),
        (([1, 2], TWO), ([1], {"stable": 1}), {1}, ([1, 2], ONE)),  # A new label waits, too.
        # The file names a version that the server has not: it refused the file, and would again.
        (([1, 2], TWO), ([1, 2], TWO), {1}, ([1, 2], ONE)),
        (([1, 2], TWO), ([1, 2], TWO), set(), ([1, 2], TWO)),  # Or is about to start with it.
        # The next day, another version: the label that the server has is not the one in the file.
        (([1, 3], {"stable": 1, "canary": 3}), ([1, 2], TWO), {1}, ([1, 3], ONE)),
    ],
)
def test_a_step(target, now, loaded, step):
    assert next_step(config(*target), config(*now), {"m": dict.fromkeys(loaded, True)}) == config(*step)


def test_labels_wait_where_versions_are_still_being_loaded():
    """A server that starts is asked before its stable version is there: that label does not go to the canary."""
    states = {"m": {1: False, 2: True}}
    assert next_step(config([1, 2], TWO), config([1, 2], TWO), states) == config([1, 2], TWO)
    assert next_step(config([1, 2, 3], {"stable": 3}), config([1, 2], TWO), states) == config([1, 2, 3], {"stable": 1})


def test_labels_of_all_models_move_together():
    """Else a ranker would be asked with cluster IDs of another encoder, for good where one model never loads."""

    def both(stable, versions):
        made = ModelServerConfig()
        for name in ("m", "n"):
            made.model_config_list.config.add().CopyFrom(
                config(versions, {"stable": stable}).model_config_list.config[0]
            )
            made.model_config_list.config[-1].name = name
        return made

    half, whole = {"m": {1: True, 2: True}, "n": {1: True}}, {"m": {1: True, 2: True}, "n": {1: True, 2: True}}
    assert next_step(both(2, [2]), both(1, [1]), half) == both(1, [1, 2])
    assert next_step(both(2, [2]), both(1, [1, 2]), whole) == both(2, [2])


def versions_of(target):
    """Label -> the version that answers."""
    versions = {}
    for label in ("stable", "canary"):
        with CourierClient(target, label=label, timeout_seconds=20) as client:
            versions[label] = client.rank("u1", [], ["i001"]).model_version
    return versions


def wait_for(expected, target):
    end = time.monotonic() + 60
    while versions_of(target) != expected:
        assert time.monotonic() < end, versions_of(target)
        time.sleep(0.2)


def test_a_server_that_reads_the_bundle_by_itself(workdir):
    promote(workdir, LENIENT)
    with StrictServer(workdir / "serving", workdir / "models", warm_up=False) as server:
        target = f"localhost:{server.port}"
        write_rank(workdir, seed=2)
        export_again(workdir, target)
        wait_for({"stable": 1, "canary": 2}, target)
        promote(workdir, LENIENT, target)
        wait_for({"stable": 2, "canary": 2}, target)
        write_rank(workdir, seed=3)
        export_again(workdir, target)
        promote(workdir, LENIENT, target)  # At once.
        wait_for({"stable": 3, "canary": 3}, target)
        roll_back(workdir, target)
        roll_back(workdir, target)  # To what is not loaded any more.
        wait_for({"stable": 1, "canary": 1}, target)
        with pytest.raises(ReleaseError, match="were rolled back"):
            promote(workdir, LENIENT, target)
        assert server.refused == 0
        promote(workdir, LENIENT, target, withdrawn=True)
        wait_for({"stable": 3, "canary": 3}, target)


def test_a_server_that_has_refused_a_file(workdir):
    """An export that named no server: its file moves the label of the canary at once."""
    promote(workdir, LENIENT)
    with StrictServer(workdir / "serving", workdir / "models", warm_up=False) as server:
        target = f"localhost:{server.port}"
        write_rank(workdir, seed=2)
        export_again(workdir)
        end = time.monotonic() + 60
        while not server.refused:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert versions_of(target) == {"stable": 1, "canary": 1}
        promote(workdir, LENIENT, target)
        wait_for({"stable": 2, "canary": 2}, target)


def test_a_server_that_does_not_load_them(workdir, monkeypatch):
    promote(workdir, LENIENT)
    before = rolling.text_format.Parse((workdir / "serving" / "models.config").read_text(), ModelServerConfig())
    monkeypatch.setattr(rolling, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(rolling, "states_of", lambda server, models: {})
    write_rank(workdir, seed=2)
    with pytest.raises(RollOutError, match="localhost:1 has not loaded.*If it is down, do without --server"):
        export_again(workdir, "localhost:1")
    after = rolling.text_format.Parse((workdir / "serving" / "models.config").read_text(), ModelServerConfig())
    ranker, previous = after.model_config_list.config[0], before.model_config_list.config[0]
    assert list(ranker.model_version_policy.specific.versions) == [1, 2]
    assert ranker.version_labels == previous.version_labels


@pytest.mark.slow
def test_courier_serve_sees_to_it(workdir, tmp_path):
    promote(workdir, LENIENT)
    with running(STAND_IN, workdir, tmp_path) as ports:
        target = f"localhost:{ports.port}"
        write_rank(workdir, seed=2)
        export_again(workdir)
        wait_for({"stable": 1, "canary": 2}, target)
        promote(workdir, LENIENT)
        wait_for({"stable": 2, "canary": 2}, target)
        (workdir / "serving" / "models.config").write_text("model_config_list {")
        time.sleep(1.5)
        assert versions_of(target) == {"stable": 2, "canary": 2}
