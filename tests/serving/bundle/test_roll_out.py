"""New versions on a server that is as strict as TensorFlow Serving: labels never move to what is not loaded."""

import contextlib
import threading
import time

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from courier_tf.exporting.promotion import promote, roll_back
from courier_tf.settings import PromotionSettings
from serving.bundle import roll_out as rolling
from serving.bundle.releases import ReleaseError
from serving.bundle.roll_out import RollOutError, require_labels, roll_out
from serving.client.client import CourierClient
from tests.served_shop import export_again, write_rank
from tests.servers import STAND_IN, StrictServer, free_port, running
from tests.serving.bundle.configurations import ONE, TWO, config
from tests.strict_replica import StrictReplica

COMMENT = "# A comment.\n"
LENIENT = PromotionSettings(auc_tolerance=1.0, calibration_tolerance=100.0, accept=("auc", "calibration", "collapse"))


@pytest.fixture
def file(tmp_path):
    """A models.config whose first version is served."""
    made = tmp_path / "models.config"
    roll_out(made, config([1], ONE), COMMENT, [])
    return made


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(rolling, "PATIENCE_SECONDS", 120.0)
    monkeypatch.setattr(rolling, "LABELS_SECONDS", 120.0)


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def labels_in(file):
    return dict(text_format.Parse(file.read_text(), ModelServerConfig()).model_config_list.config[0].version_labels)


def labels_given(replica, label="canary"):
    """The versions that the label was given, in order."""
    return [version for _, name, version in replica.moves if name == label]


def test_three_replicas_that_read_the_file_at_different_times(file):
    with (
        StrictReplica(file, poll_seconds=0.02) as first,
        StrictReplica(file, poll_seconds=0.3, load_seconds=0.2) as second,
        StrictReplica(file, poll_seconds=0.7) as third,
    ):
        replicas = (first, second, third)
        addresses = [replica.address for replica in replicas]
        roll_out(file, config([1, 2], TWO), COMMENT, addresses)
        require_labels(file, addresses)
        assert [replica.labels() for replica in replicas] == [TWO] * 3
        assert [replica.refused for replica in replicas] == [0] * 3
        assert [labels_given(replica) for replica in replicas] == [[1, 2]] * 3


@pytest.mark.parametrize("named", ["both", "the one behind"])
def test_a_replica_that_was_left_behind_is_healed(file, named):
    """The command named one of two: the other refuses the file. Named, it follows, and the first keeps its labels."""
    with StrictReplica(file) as ahead, StrictReplica(file) as behind:
        behind.asleep = True
        roll_out(file, config([1, 2], TWO), COMMENT, [ahead.address])
        behind.asleep = False
        wait_until(lambda: behind.refused)
        addresses = [behind.address, *([ahead.address] if named == "both" else [])]
        roll_out(file, config([1, 2], TWO), COMMENT, addresses)
        require_labels(file, addresses)
        assert behind.labels() == ahead.labels() == TWO
        assert labels_given(ahead) == labels_given(behind) == [1, 2]


def test_a_replica_that_is_behind_and_takes_no_configuration(file, monkeypatch):
    monkeypatch.setattr(rolling, "PATIENCE_SECONDS", 0.5)
    with StrictReplica(file) as ahead, StrictReplica(file, poll_seconds=60, takes_reloads=False) as behind:
        roll_out(file, config([1, 2], TWO), COMMENT, [ahead.address])
        with pytest.raises(RollOutError) as error:
            roll_out(file, config([1, 2], TWO), COMMENT, [ahead.address, behind.address])
        assert f"{behind.address} refuses the file" in str(error.value) and "PERMISSION_DENIED" in str(error.value)
        assert "restart these replicas" in str(error.value) and ahead.address not in str(error.value)
        assert labels_given(ahead) == [1, 2]


def test_a_replica_that_is_down(file, monkeypatch):
    monkeypatch.setattr(rolling, "PATIENCE_SECONDS", 0.5)
    with StrictReplica(file) as up:
        down = f"127.0.0.1:{free_port()}"
        with pytest.raises(RollOutError, match=f"{down} does not answer .UNAVAILABLE.*leave them out of --server"):
            roll_out(file, config([1, 2], TWO), COMMENT, [up.address, down])
        assert up.labels() == labels_in(file) == ONE
        roll_out(file, config([1, 2], TWO), COMMENT, [up.address])


@pytest.mark.parametrize("is_first", [True, False], ids=["first export", "later"])
def test_a_replica_that_is_down_is_named_at_once_and_given_up_early(tmp_path, file, monkeypatch, caplog, is_first):
    """Long before those that load, and without a word of replicas that are up."""
    monkeypatch.setattr(rolling, "START_SECONDS", 1.0)
    if is_first:
        file = tmp_path / "first.config"
    down, begin = f"127.0.0.1:{free_port()}", time.monotonic()
    with pytest.raises(
        RollOutError, match=f"{file} is written, but after 1 s: {down} does not answer .UNAVAILABLE"
    ) as error:
        roll_out(file, config([1, 2], TWO), COMMENT, [down])
    assert 1 < time.monotonic() - begin < 20 and "leave them out of --server" in str(error.value)
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert down in warning.getMessage() and "it has 1 s to start" in warning.getMessage()
    assert warning.created - caplog.records[0].created < 0.5
    with StrictReplica(file) as starts:  # It takes the file as it is.
        wait_until(lambda: starts.labels() == labels_in(file))
    assert labels_in(file) == (TWO if is_first else ONE)


def test_a_replica_that_is_restarted_meanwhile_has_the_time_of_those_that_load(file, monkeypatch):
    """It has answered before, so it is no name that was mistyped."""
    monkeypatch.setattr(rolling, "START_SECONDS", 0.3)
    port = free_port()
    with contextlib.ExitStack() as later:
        first = StrictReplica(file, poll_seconds=60, port=port)

        def restart():
            wait_until(lambda: "versions: 2" in file.read_text())  # It has been asked.
            first.__exit__(None, None, None)
            time.sleep(1.0)
            later.enter_context(StrictReplica(file, port=port))

        first.__enter__()
        thread = threading.Thread(target=restart)
        thread.start()
        roll_out(file, config([1, 2], TWO), COMMENT, [f"127.0.0.1:{port}"])
        thread.join()


def test_a_replica_that_starts_meanwhile(file):
    port = free_port()
    with StrictReplica(file) as up, contextlib.ExitStack() as started:
        begin = threading.Timer(0.5, lambda: started.enter_context(StrictReplica(file, port=port)))
        begin.start()
        roll_out(file, config([1, 2], TWO), COMMENT, [up.address, f"127.0.0.1:{port}"])
        require_labels(file, [up.address, f"127.0.0.1:{port}"])
        begin.join()


def test_a_broken_version_is_named_at_once(file):
    broken = {("m", 2): "NOT_FOUND: no variables"}
    with StrictReplica(file) as sound, StrictReplica(file, broken=broken) as spoiled:
        addresses, begin = [sound.address, spoiled.address], time.monotonic()
        message = (
            f"{spoiled.address} cannot load version 2 of m: NOT_FOUND: no variables. No label has moved.*--withdraw"
        )
        for _ in range(2):  # The command is repeated: the file names the version already.
            with pytest.raises(RollOutError, match=message):
                roll_out(file, config([1, 2], TWO), COMMENT, addresses)
        assert time.monotonic() - begin < 10
        assert sound.labels() == spoiled.labels() == labels_in(file) == ONE
        roll_out(file, config([1, 3], {"stable": 1, "canary": 3}), COMMENT, addresses)  # Another version.


def test_a_first_version_that_is_broken(tmp_path):
    """The replica starts with the file that the command writes."""
    file, port = tmp_path / "models.config", free_port()
    with contextlib.ExitStack() as started:

        def start():
            wait_until(file.exists)
            started.enter_context(StrictReplica(file, broken={("m", 1): "no variables"}, port=port))

        begin = threading.Thread(target=start)
        begin.start()
        with pytest.raises(RollOutError, match="cannot load version 1 of m: no variables"):
            roll_out(file, config([1], ONE), COMMENT, [f"127.0.0.1:{port}"])
        begin.join()


def test_a_stable_version_that_is_broken_keeps_no_other_from_coming(file):
    """It was there, and is damaged since: the replica that was restarted cannot load it. A newer version mends that."""
    with StrictReplica(file) as sound, StrictReplica(file, broken={("m", 1): "DATA_LOSS"}) as spoiled:
        addresses = [sound.address, spoiled.address]
        for target in (config([1, 2], TWO), config([1, 2], {"stable": 2, "canary": 2})):
            roll_out(file, target, COMMENT, addresses)
            require_labels(file, addresses)
        assert sound.labels() == spoiled.labels() == {"stable": 2, "canary": 2}


def test_a_version_that_was_broken_when_it_was_tried_before(file):
    """It is tried again, as the file did not name it any more: its old error says nothing."""
    broken = {("m", 2): "no space left on device"}
    with StrictReplica(file, broken=broken, poll_seconds=0.2) as replica:
        with pytest.raises(RollOutError, match="no space left"):
            roll_out(file, config([1, 2], TWO), COMMENT, [replica.address])
        replica._broken.clear()
        roll_out(file, config([1], ONE), COMMENT, [replica.address])
        wait_until(lambda: replica.aspired["m"] == {1})
        roll_out(file, config([1, 2], TWO), COMMENT, [replica.address])


def test_a_replica_that_reads_another_file(file, tmp_path, monkeypatch):
    monkeypatch.setattr(rolling, "LABELS_SECONDS", 0.5)
    other = tmp_path / "other.config"
    roll_out(other, config([1, 2], ONE), COMMENT, [])
    with StrictReplica(other) as elsewhere, StrictReplica(file) as follows:
        addresses = [elsewhere.address, follows.address]
        roll_out(file, config([1, 2], TWO), COMMENT, addresses)
        with pytest.raises(
            RollOutError, match=f"{elsewhere.address} has label canary of m at 1, not 2.*read this file"
        ):
            require_labels(file, addresses)


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


@pytest.mark.slow
def test_a_server_that_reads_the_bundle_by_itself(workdir):
    promote(workdir, LENIENT)
    with StrictServer(workdir / "serving", workdir / "models", warm_up=False) as server:
        target = f"localhost:{server.port}"
        write_rank(workdir, seed=2)
        export_again(workdir, [target])
        wait_for({"stable": 1, "canary": 2}, target)
        promote(workdir, LENIENT, [target])
        wait_for({"stable": 2, "canary": 2}, target)
        write_rank(workdir, seed=3)
        export_again(workdir, [target])
        promote(workdir, LENIENT, [target])  # At once.
        wait_for({"stable": 3, "canary": 3}, target)
        roll_back(workdir, [target])
        roll_back(workdir, [target])  # To what is not loaded any more.
        wait_for({"stable": 1, "canary": 1}, target)
        with pytest.raises(ReleaseError, match="were rolled back"):
            promote(workdir, LENIENT, [target])
        assert server.refused == 0
        promote(workdir, LENIENT, [target], withdrawn=True)
        wait_for({"stable": 3, "canary": 3}, target)


@pytest.mark.slow
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
        promote(workdir, LENIENT, [target])
        wait_for({"stable": 2, "canary": 2}, target)


@pytest.mark.slow
def test_a_server_that_does_not_load_them(workdir, monkeypatch):
    promote(workdir, LENIENT)
    before = rolling.text_format.Parse((workdir / "serving" / "models.config").read_text(), ModelServerConfig())
    monkeypatch.setattr(rolling, "PATIENCE_SECONDS", 0.1)
    write_rank(workdir, seed=2)
    with pytest.raises(RollOutError, match="127.0.0.1:1 does not answer.*leave them out of --server"):
        export_again(workdir, ["localhost:1"])
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
