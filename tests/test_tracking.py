"""MLflow, by a stand-in: what it is told, and what happens where it is missing or fails."""

import dataclasses
import importlib
import math
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from courier_tf import tracking
from courier_tf.commands import program, summary
from courier_tf.commands.chain_commands import Pretrain
from courier_tf.tracking import PARAMETERS_AT_A_TIME, Figures, TrackingError


@dataclasses.dataclass
class Server:
    """Notes each call; raises from the one named `broken` on."""

    calls: list = dataclasses.field(default_factory=list)
    broken: str = ""

    def called(self, name):
        return [values for method, values, _ in self.calls if method == name]


@pytest.fixture
def server(monkeypatch):
    server = Server()

    def noting(name):
        def note(*values, **options):
            if name == server.broken:
                raise OSError("connection refused\nand more")
            server.calls.append((name, values, options))

        return note

    names = ("set_tracking_uri", "set_experiment", "start_run", "log_params", "log_metrics", "log_artifact", "end_run")
    module = types.ModuleType("mlflow")
    for name in names:
        setattr(module, name, noting(name))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    yield server
    tracking._trackers.clear()


@pytest.fixture
def no_mlflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ImportError):
        importlib.import_module("mlflow")


def test_settings_figures_and_files_of_a_run(server, tmp_path):
    values = {f"setting_{number}": number for number in range(2 * PARAMETERS_AT_A_TIME + 5)} | {"long": "x" * 900}
    tracking.start("http://host:5000", "w run", values)
    assert [call[:2] for call in server.calls[:2]] == [
        ("set_tracking_uri", ("http://host:5000",)),
        ("set_experiment", ("courier",)),
    ]
    assert server.calls[2] == ("start_run", (), {"run_name": "w run"})
    told = [parameters for (parameters,) in server.called("log_params")]
    assert max(map(len, told)) <= PARAMETERS_AT_A_TIME
    assert {name: text for part in told for name, text in part.items()} == {
        **{name: str(value) for name, value in values.items()},
        "long": "x" * 500,
    }
    tracking.figures("rank a+b:c", {"auc": 0.5, "nothing": math.nan, "photos/s": np.float32(2.0)}, step=7)
    assert server.calls[-1] == ("log_metrics", ({"rank a_b_c/auc": 0.5, "rank a_b_c/photos/s": 2.0},), {"step": 7})
    (tmp_path / "report.html").touch()
    tracking.file(tmp_path / "report.html")
    tracking.file(tmp_path / "missing.html")
    assert server.called("log_artifact") == [(str(tmp_path / "report.html"),)]
    tracking.end(failed=True)
    tracking.end(failed=False)
    tracking.figures("late", {"auc": 1.0}, step=8)
    assert server.calls[-1] == ("end_run", (), {"status": "FAILED"})


def test_each_epoch_of_a_training_is_recorded_by_its_steps(server):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.steps = tf.Variable(0)
    model.compile("sgd", "mse")

    class Steps(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.steps.assign_add(1)

    tracking.start("folder", "w pretrain", {})
    callbacks = [Steps(), Figures("pretrain")]
    history = model.fit(np.ones([6, 3]), np.ones([6, 1]), batch_size=2, epochs=2, verbose=0, callbacks=callbacks)
    metrics = [(values[0], options["step"]) for name, values, options in server.calls if name == "log_metrics"]
    first, second = history.history["loss"]
    assert metrics == [({"pretrain/loss": first}, 3), ({"pretrain/loss": second}, 6)]


def test_the_results_are_recorded(server, tmp_path, monkeypatch):
    monkeypatch.setattr(summary, "write_report", lambda metrics, workdir: workdir / "report.txt")
    monkeypatch.setattr(summary, "verdict_lines", lambda metrics: [])
    (tmp_path / "metrics.json").touch()
    tracking.start("folder", "w rank", {})
    parts = {"ranking": {"none": {"valid": {"all": {"auc": 0.61, "interval": [0.6, 0.62]}}}}, "gain_over_none": {}}
    summary.report({**parts, "held_out": {"pretrain": None}, "data": {"rows": 3}}, tmp_path)
    assert server.called("log_metrics") == [({"result/ranking/none/valid/all/auc": 0.61},)]
    assert server.called("log_artifact") == [(str(tmp_path / "metrics.json"),)]


def test_a_server_that_fails_costs_no_training(server, caplog):
    tracking.start("folder", "w run", {"a": 1})
    server.broken = "log_metrics"
    for step in range(3):
        tracking.figures("pretrain", {"loss": 1.0}, step)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == ["MLflow records nothing any more: connection refused"]


@pytest.mark.parametrize("broken", ["set_tracking_uri", "set_experiment", "start_run"])
def test_a_server_that_cannot_be_had_ends_the_command_at_once(server, broken):
    server.broken = broken
    with pytest.raises(TrackingError, match="^--mlflow http://host: connection refused$"):
        tracking.start("http://host", "w run", {})


def test_without_the_package_the_command_says_what_to_install(no_mlflow, tmp_path, monkeypatch, capsys):
    with pytest.raises(program.ProgramExit) as ended:
        program.main(["pretrain", "--workdir", str(tmp_path / "w"), "--preset", "tiny", "--mlflow", "folder"])
    assert ended.value.code == 1
    assert str(ended.value) == "--mlflow needs the package mlflow: pip install mlflow"


def test_the_run_of_a_command_ends_with_it(server, tmp_path):
    """A command that fails: there is nothing to train on."""
    with pytest.raises(program.ProgramExit):
        program.main(["pretrain", "--workdir", str(tmp_path / "w"), "--preset", "tiny", "--mlflow", "folder"])
    assert ("start_run", (), {"run_name": "w pretrain"}) in server.calls
    assert server.calls[-1] == ("end_run", (), {"status": "FAILED"})
    settings = {name for (part,) in server.called("log_params") for name in part}
    command = program.read(["pretrain", "--workdir", str(tmp_path / "w"), "--preset", "tiny"])
    assert isinstance(command, Pretrain) and settings == set(command.settings.by_name())


def test_nothing_is_recorded_unasked(server, tmp_path):
    tracking.figures("pretrain", {"loss": 1.0}, 1)
    tracking.file(tmp_path)
    tracking.end(failed=False)
    assert server.calls == []
