"""The commands of `courier` and their options; `cli.py` runs them."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Literal

import tyro

from courier_tf.experiment.grid import Until
from courier_tf.settings import PromotionSettings, Settings
from courier_tf.settings.presets import PRESETS
from courier_tf.shop import ShopSettings

Flat = tyro.conf.arg(name="")  # A stage's settings are options of their own, without a prefix.
Preset = Literal[tuple(PRESETS)]  # The options that tyro offers.


@dataclasses.dataclass(frozen=True)
class Shop:
    """Draw the simulated shop: a data set in the raw format, with photos, clicks, and known tastes."""

    out: tyro.conf.Positional[Path]
    """Folder to write."""
    settings: Annotated[ShopSettings, Flat] = dataclasses.field(default_factory=ShopSettings)


@dataclasses.dataclass(frozen=True)
class Stage:
    """What all stages of the chain share."""

    workdir: Path
    """Folder of the results; holds one folder per stage."""
    preset: Preset = "demo"
    """Defaults of all settings: tiny (seconds), demo (minutes), paper (GPUs), authors (paper, with their losses)."""
    settings: Annotated[Settings, Flat] = dataclasses.field(default_factory=Settings)


@dataclasses.dataclass(frozen=True)
class Run(Stage):
    """The whole chain: raw logs and photos in, SavedModels and metrics out."""

    raw: str = tyro.MISSING
    """Folder or URI in the raw format."""
    final: bool = False
    """Read the test span too; each reading is counted."""
    server: str | None = None
    """As of `courier export`."""


@dataclasses.dataclass(frozen=True)
class Ingest(Stage):
    """Raw logs and photos to TFRecords (Beam; takes Beam's own options too, such as --runner)."""

    raw: str = tyro.MISSING
    """Folder or URI in the raw format."""


@dataclasses.dataclass(frozen=True)
class Pretrain(Stage):
    """TFRecords to an image encoder: supervised pre-training, then COURIER."""


@dataclasses.dataclass(frozen=True)
class Embed(Stage):
    """Items to embeddings (Beam; takes Beam's own options too)."""


@dataclasses.dataclass(frozen=True)
class Cluster(Stage):
    """Embeddings to cluster IDs."""


@dataclasses.dataclass(frozen=True)
class Rank(Stage):
    """Impressions to rankers, with and without looks; writes metrics.json."""

    final: bool = False
    """Read the test span too; each reading is counted."""


@dataclasses.dataclass(frozen=True)
class Export(Stage):
    """Trained models to SavedModels for TF Serving, and the bundle that a server is started with."""

    promote: bool = False
    """Make the newest versions the stable ones, if they pass the gate."""
    roll_back: bool = False
    """Export nothing: make the versions before the stable ones the stable ones again."""
    withdraw: bool = False
    """Export nothing: make the newest versions, the canary, no canary any more."""
    promote_withdrawn: bool = False
    """Let --promote take versions that were rolled back or withdrawn."""
    server: str | None = None
    """host:port of the gRPC of a running server that reads the bundle by itself (Docker Compose, Kubernetes): labels
    move once it has loaded what they name. Not needed for a tensorflow_model_server that `courier serve` started."""
    scann: bool = False
    """Write similar_items by ScaNN, too, into models_scann/: needs a build of TensorFlow Serving with ScaNN's ops."""
    warm_up_log: Path | None = None
    """A log of requests (serving/request_log.py), a file or folder: new versions warm up with what was asked last."""
    gate: Annotated[PromotionSettings, Flat] = dataclasses.field(default_factory=PromotionSettings)


@dataclasses.dataclass(frozen=True)
class Serve:
    """Serve the exported models by TensorFlow Serving, if it is here, else by a local server with the same API."""

    workdir: Path
    """Workdir of a finished run."""
    port: int = 8500
    """Of gRPC."""
    rest_port: int = 8501
    """Of REST."""
    server: Literal["auto", "tensorflow_model_server", "docker", "local"] = "auto"
    """Which server; auto takes the first of these that is here."""


@dataclasses.dataclass(frozen=True)
class Experiment(Stage):
    """Run the variants of a grid with several seeds; tables with paired intervals, and plots."""

    grid: tyro.conf.Positional[str] = tyro.MISSING
    """A grid: paper-methods, paper-modes, paper-ablations, open-questions, clusters, negatives, previous-day,
    daily-retrain, or a JSON file with one."""
    raw: str = tyro.MISSING
    """Folder or URI in the raw format."""
    seeds: tuple[int, ...] = ()
    """Seeds of each variant. Default: the grid's."""
    parallel: int = 1
    """Runs at a time. Fewer run where memory is short: each is assumed to need as much as the largest so far."""
    final: bool = False
    """Measure on the test span; the reading of each run is counted."""
    until: Until = "rank"
    """pretrain: no rankers; encoders are compared by their held-out score on valid alone."""
    claims: Path | None = None
    """JSON file with claims about the gains, by grid. They are judged in results.md; the command fails where one does
    not hold."""


@dataclasses.dataclass(frozen=True)
class Predict:
    """Ask an exported ranker, loaded as a server does, for click probabilities."""

    workdir: Path
    """Workdir of a finished run."""
    user: str
    """User id; an unknown one is fine."""
    candidates: tuple[str, ...]
    """Item ids to score."""
    history: tuple[str, ...] = ()
    """Item ids clicked before, oldest first."""


@dataclasses.dataclass(frozen=True)
class Similar:
    """Show the items that look most like given ones, by the embeddings of a run."""

    workdir: Path
    """Workdir whose embed stage is finished."""
    items: tuple[str, ...]
    """Item ids."""
    number: int = 10
    """Similar items of each."""
    search: Literal["exact", "scann"] = "exact"
    """scann answers many items of a large catalogue faster, and misses a few."""


@dataclasses.dataclass(frozen=True)
class LoadTest:
    """Send real requests to a server at a given rate, whether it keeps up or not; table, figures and plot."""

    workdir: Path
    """Workdir of the models that are served; its warm-up requests are sent, unless there is a log."""
    log: Path | None = None
    """Log of requests (serving/request_log.py): what is sent is drawn from it."""
    target: str = "localhost:8500"
    """Server, host:port of gRPC."""
    label: Literal["stable", "canary"] = "stable"
    """Versions that are asked."""
    models: tuple[str, ...] = ()
    """Models that are asked. Default: every model of the bundle."""
    rate: float = 20.0
    """Requests per second."""
    seconds: float = 30.0
    """How long."""
    timeout_seconds: float = 10.0
    """Deadline of a request."""
    out: Path | None = None
    """Folder for figures and plot; the default is serving/load_test in the workdir."""


@dataclasses.dataclass(frozen=True)
class Skew:
    """Compare a log of requests (serving/request_log.py) with the training data and the trained ranker."""

    workdir: Path
    """Workdir of the models that were served."""
    log: Path
    """The log: a file, or the folder."""


COMMANDS = (
    Shop,
    Run,
    Ingest,
    Pretrain,
    Embed,
    Cluster,
    Rank,
    Export,
    Experiment,
    Predict,
    Similar,
    Serve,
    LoadTest,
    Skew,
)


def command_name(command: type) -> str:
    """LoadTest is the command load-test."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", command.__name__).lower()
