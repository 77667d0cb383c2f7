"""What a command measures, also for MLflow where it asks for that: settings, figures by step, and files.

MLflow is no dependency. It is imported when a command asks for it, and a server that fails costs no training.
"""

import importlib
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorflow import keras

from courier_tf.escaping import printable

LOG = logging.getLogger(__name__)
EXPERIMENT = "courier"
PARAMETERS_AT_A_TIME = 100  # MLflow takes no more in one request.
LONGEST_PARAMETER = 500  # Characters.
_FORBIDDEN = re.compile(r"[^\w\-. /]", re.ASCII)  # In the name of a figure.


class TrackingError(ValueError):
    """A run cannot be recorded as the command asks for."""


class Tracker:
    """One run of MLflow.

    Args:
        address: of the server, or of its database.
        name: of the run.

    Raises:
        TrackingError: MLflow is not installed, or the address cannot be used.
    """

    def __init__(self, address: str, name: str) -> None:
        try:
            self._mlflow: Any = importlib.import_module("mlflow")
        except ImportError as error:
            raise TrackingError("--mlflow needs the package mlflow: pip install mlflow") from error
        try:
            self._mlflow.set_tracking_uri(address)
            self._mlflow.set_experiment(EXPERIMENT)
            self._mlflow.start_run(run_name=name)
        except Exception as error:
            raise TrackingError(f"--mlflow {printable(address)}: {_reason(error)}") from error
        self._works = True

    def settings(self, values: Mapping[str, object]) -> None:
        """Records settings by name."""
        texts = [(name, str(value)[:LONGEST_PARAMETER]) for name, value in values.items()]
        for start in range(0, len(texts), PARAMETERS_AT_A_TIME):
            self._record("log_params", dict(texts[start : start + PARAMETERS_AT_A_TIME]))

    def figures(self, values: Mapping[str, float], step: int) -> None:
        """Records what was measured after a step. What is no finite number is left out."""
        finite = {_FORBIDDEN.sub("_", name): float(value) for name, value in values.items() if math.isfinite(value)}
        if finite:
            self._record("log_metrics", finite, step=step)

    def file(self, file: Path) -> None:
        """Records a file, where it is there."""
        if file.is_file():
            self._record("log_artifact", str(file))

    def end(self, failed: bool) -> None:
        """Ends the run."""
        self._record("end_run", status="FAILED" if failed else "FINISHED")

    def _record(self, method: str, *values: object, **options: object) -> None:
        if not self._works:
            return
        try:
            getattr(self._mlflow, method)(*values, **options)
        except Exception as error:
            self._works = False
            LOG.warning("MLflow records nothing any more: %s", _reason(error))


_trackers: list[Tracker] = []  # The one of the command that runs, as loggers have their handlers.


def start(address: str, name: str, settings: Mapping[str, object]) -> None:
    """Starts to record, until `end`.

    Args:
        address: of a server of MLflow, or of its database.
        name: of the run.
        settings: by name.

    Raises:
        TrackingError: it cannot.
    """
    end(failed=True)
    tracker = Tracker(address, name)
    _trackers.append(tracker)
    tracker.settings(settings)


def end(failed: bool) -> None:
    """Ends what `start` has begun, if anything."""
    while _trackers:
        _trackers.pop().end(failed)


def figures(name: str, values: Mapping[str, float], step: int) -> None:
    """Records what was measured of something, where a run is recorded.

    Args:
        name: of what was measured, such as a stage. It stands before the name of each figure.
        values: by name.
        step: of the training.
    """
    for tracker in _trackers:
        tracker.figures({f"{name}/{key}": value for key, value in values.items()}, step)


def file(path: Path) -> None:
    """Records a file, where a run is recorded."""
    for tracker in _trackers:
        tracker.file(path)


class Figures(keras.callbacks.Callback):
    """Records the logs of each epoch. The model counts its steps in `steps`.

    Args:
        name: of the training.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        figures(self.name, logs or {}, int(self.model.steps.numpy()))


def numbers_in(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of nested tables, by their paths. Lists and texts are left out.

    >>> numbers_in({"none": {"valid": {"auc": 0.6, "interval": [0.5, 0.7]}}, "rows": 9})
    {'none/valid/auc': 0.6, 'rows': 9}
    """
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            numbers |= {f"{name}/{inner}": number for inner, number in numbers_in(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[name] = value
    return numbers


def _reason(error: BaseException) -> str:
    """The first line of an error."""
    return printable(next(iter(str(error).splitlines()), "") or type(error).__name__)
