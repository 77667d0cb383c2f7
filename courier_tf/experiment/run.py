"""A run of a grid, and its files: what its process is told, how far it came, and what it measured."""

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from courier_tf.experiment.grid import Until
from courier_tf.settings import Settings, SettingsError
from courier_tf.typed_json import JsonError, fields_of, parse_json, read_json, require_kind
from courier_tf.workdir.atomic import write_file

LOG = logging.getLogger(__name__)
RUNS_FOLDER = "runs"
RUN_FILE, STATUS_FILE, MEASURED_FILE, PREDICTIONS_FILE = "run.json", "status.json", "measured.json", "predictions.npz"


class ExperimentFileError(ValueError):
    """A file of a run is broken."""


class Key(NamedTuple):
    """Names a run.

    Attributes:
        variant: name of its variant.
        seed: its seed.
        origin: first day of its valid span, where the grid has several; else empty.
    """

    variant: str
    seed: int
    origin: str = ""

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return f"{self.variant},seed={self.seed}" + (f",origin={self.origin}" if self.origin else "")


@dataclasses.dataclass(frozen=True)
class Run:
    """A variant of a grid with a seed, and an origin where the grid has several, as `run.json` tells its process.

    Attributes:
        variant: name of the variant.
        seed: the seed, which is also that of `settings`.
        workdir: workdir of the run, two folders below that of the grid's results.
        store: folder of the stages that runs share.
        raw: folder or URI in the raw format.
        final: measure on the test span instead of the valid span; the reading is counted.
        settings: settings of all stages.
        until: the last stage that is run.
        origin: that of the run's key.
    """

    variant: str
    seed: int
    workdir: Path
    store: Path
    raw: str
    final: bool
    settings: Settings
    until: Until
    origin: str = ""

    def to_json(self) -> str:
        """The run as JSON, for `from_json`."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= {"workdir": str(self.workdir), "store": str(self.store)}
        return json.dumps(values | {"settings": json.loads(self.settings.to_json())}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The run that `to_json` wrote.

        Raises:
            ExperimentFileError: it is another text.
            SettingsError: its settings make no sense.
        """
        try:
            values = parse_json(text)
            values |= {"workdir": Path(values["workdir"]), "store": Path(values["store"])}
            return fields_of(cls, values | {"settings": Settings.from_json(json.dumps(values["settings"]))})
        except (JsonError, TypeError, KeyError) as error:
            raise ExperimentFileError(f"this is no run of an experiment: {error!r}") from error


def differing_settings(run: Run) -> str:
    """What the run that stands in the workdir of `run` was told otherwise, as `precision=float32, now bfloat16; ...`.

    Empty where only data or code differ, and where the file of the run says nothing.
    """
    try:
        before = Run.from_json((run.workdir / RUN_FILE).read_text()).settings.by_name()
    except (OSError, ExperimentFileError, SettingsError):
        return ""
    now = run.settings.by_name()
    return "; ".join(f"{name}={before[name]}, now {value}" for name, value in now.items() if value != before[name])


@dataclasses.dataclass(frozen=True)
class Status:
    """How far a run came.

    Attributes:
        fingerprint: fingerprint of what its figures depend on.
        until: the last stage of a finished run; None while it is not finished.
        commit: the code that made it.
        peak_memory_gib: the most memory that one of its processes has held.
    """

    fingerprint: str
    until: Until | None
    commit: str
    peak_memory_gib: float = 0.0

    @classmethod
    def read(cls, workdir: Path) -> Self | None:
        """The status of the run in `workdir`; None where there is none, or a broken one: the run is then made again."""
        file = workdir / STATUS_FILE
        try:
            return fields_of(cls, read_json(file)) if file.exists() else None
        except JsonError as error:
            LOG.warning("%s says nothing about the run: %s", file, error)
            return None

    def write(self, workdir: Path) -> None:
        """Writes the status into the workdir of the run."""
        write_file(workdir / STATUS_FILE, json.dumps(dataclasses.asdict(self)))


@dataclasses.dataclass(frozen=True)
class RankersMeasured:
    """Figures of the rankers of a run, as in `metrics.json`, on one span.

    Attributes:
        split: `valid` or `test`.
        ranking: metrics by mode, those of slices under "slices".
        gain_over_none, gauc_gain_over_none: gains by mode and slice, with their intervals; None where not defined.
        valid_gains: gain over none by mode on the valid span, for candidates new to the user; None where not defined.
        popularity: AUC of the popularity alone, and related figures.
        category_gates: by mode, how far the gate of each category is open.
        learning_rates: by mode, for each start the log loss of each learning rate; None where it diverged.
    """

    split: str
    ranking: dict[str, dict[str, Any]]
    gain_over_none: dict[str, dict[str, dict[str, float | None] | None]]
    gauc_gain_over_none: dict[str, dict[str, dict[str, float | None] | None]]
    valid_gains: dict[str, float | None]
    popularity: dict[str, float | None]
    category_gates: dict[str, dict[str, float]]
    learning_rates: dict[str, list[dict[str, float | None]]]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a run has measured, as it stands in `measured.json`.

    Attributes:
        held_out: held-out scores of the encoder.
        losses: the loss at each checkpoint of pre-training; empty where there was no pre-training.
        seconds: seconds of each stage; None where it was not run.
        ingest: fingerprint of the data.
        code_version: the version that trained the encoder.
        commit: the code that made the last stage; None where that stage was not made here.
        rankers: figures of the rankers; None where the run ends with its encoder.
    """

    held_out: Mapping[str, float | None]
    losses: list[float]
    seconds: dict[str, float | None]
    ingest: str
    code_version: str
    commit: str | None
    rankers: RankersMeasured | None = None

    @classmethod
    def read(cls, workdir: Path) -> Self:
        """What the finished run in `workdir` has measured.

        Raises:
            ExperimentFileError: the file is broken.
        """
        file = workdir / MEASURED_FILE
        try:
            values = read_json(file)
            require_kind("the content", values, dict[str, Any])
            rankers = values.get("rankers")
            measured = fields_of(RankersMeasured, rankers, "rankers") if rankers else None
            return fields_of(cls, values | {"rankers": measured})
        except JsonError as error:
            raise ExperimentFileError(f"{file} is broken: {error}. Remove its folder; the run is made again") from error

    def write(self, workdir: Path) -> None:
        """Writes the figures into the workdir of the run."""
        write_file(workdir / MEASURED_FILE, json.dumps(dataclasses.asdict(self), indent=2))
