"""The commands that use what the chain has made."""

import dataclasses
from pathlib import Path
from typing import Literal

from courier_tf import schema
from courier_tf.commands.checks import require_between
from courier_tf.commands.command import Command
from courier_tf.files.places import Place

MOST_SIMILAR, MOST_CLICKS, HIGHEST_PORT = 10_000, 10_000, 65_535
MOST_REQUESTS = 1_000_000  # Of a load test. They are planned and kept in memory.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Compute click probabilities with an exported ranker, without a server."""

    workdir: Path
    """Workdir of a finished run."""
    user: str
    """User id. An unknown one is fine."""
    candidates: tuple[str, ...]
    """Item ids to score."""
    history: tuple[str, ...] = ()
    """Item ids clicked before, oldest first."""
    context: tuple[str, ...] = ()
    """COLUMN=VALUE of the context columns that the ranker takes. The others are empty."""

    def run(self) -> None:
        from courier_tf.commands.predict import predict

        predict(self.workdir, self.user, self.candidates, self.history, self.context)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Write a report of a run, with its figures and examples, to report.html in the workdir."""

    workdir: Path
    """Workdir of a run. What has not run yet is said in its place."""

    def run(self) -> None:
        from courier_tf.commands.report import report

        report(self.workdir)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Similar(Command):
    """Show the items whose photos are most similar to those of given items."""

    workdir: Path
    """Workdir whose embed stage is finished."""
    items: tuple[str, ...]
    """Item ids."""
    number: int = 10
    """Similar items to show for each."""
    search: Literal["exact", "scann"] = "exact"
    """scann answers many items of a large catalogue faster, and misses a few."""

    def run(self) -> None:
        require_between("--number", self.number, 1, MOST_SIMILAR)
        from courier_tf.commands.similar import similar

        similar(self.workdir, self.items, self.number, self.search)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interests(Command):
    """Write the interest of every user as a table: the cluster that their clicks as a whole are nearest to."""

    workdir: Path
    """Workdir whose cluster stage is finished."""
    out: Path | None = None
    """Parquet file to write. Default: user_interests.parquet in the workdir."""
    clicks: int = 20
    """Most recent clicks that count, of those that ingest has kept."""

    def run(self) -> None:
        require_between("--clicks", self.clicks, 1, MOST_CLICKS)
        from courier_tf.ranking.user_interests import write_user_interests
        from courier_tf.workdir.artefacts import reading_large_files
        from courier_tf.workdir.stages import CLUSTER, INGEST

        file = self.out or self.workdir / "user_interests.parquet"
        with reading_large_files():
            users = write_user_interests(self.workdir / INGEST, self.workdir / CLUSTER, file, self.clicks)
        print(f"{users:,} users: {file}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Serve(Command):
    """Serve the exported models. TensorFlow Serving does it where it is installed, else a local server with its API."""

    logs_times = True
    workdir: Place
    """Workdir of a finished run. Of one on a store, the models and the bundle are copied to this machine first."""
    port: int = 8500
    """Port of gRPC."""
    rest_port: int = 8501
    """Port of REST."""
    host: str = "localhost"
    """Address to listen on. 0.0.0.0 lets other machines in: whoever reaches gRPC may load other models. A
    tensorflow_model_server always listens on all addresses."""
    server: Literal["auto", "tensorflow_model_server", "docker", "local"] = "auto"
    """Which server to start; auto takes the first that is installed."""

    def run(self) -> None:
        require_between("--port", self.port, 1, HIGHEST_PORT)
        require_between("--rest-port", self.rest_port, 1, HIGHEST_PORT)
        from courier_tf.commands.serve import serve
        from courier_tf.workdir import stored

        names = schema.BUNDLE_FOLDER, schema.MODELS_FOLDER
        with stored.here(self.workdir, names) as workdir:
            bundle, models = (workdir / name for name in names)
            serve(bundle, models, self.port, self.rest_port, self.server, self.host)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Show rankings and their reasons in a browser. You can change histories and upload photos."""

    logs_times = True
    workdir: Path
    """Workdir of a finished run."""
    port: int = 8600
    """Port of the page."""
    host: str = "localhost"
    """Address to listen on. The page knows no users: 0.0.0.0 shows the log to whoever reaches this machine."""
    server: str | None = None
    """HOST:PORT of the gRPC of a running server, whose stable versions answer. Default: a local server that is started
    with the newest versions, and with the ranker without photos to compare with."""

    def run(self) -> None:
        require_between("--port", self.port, 1, HIGHEST_PORT)
        from courier_tf.commands.demo import demo

        demo(self.workdir, self.port, self.host, self.server)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadTest(Command):
    """Send real requests to a server at a fixed rate, and measure latency and errors."""

    workdir: Path
    """Workdir of the models that are served. Their warm-up requests are sent, unless `log` is given."""
    log: Path | None = None
    """Log of requests to draw from. It is a file or folder that `serving.client` wrote."""
    target: str = "localhost:8500"
    """HOST:PORT of the server's gRPC."""
    label: Literal["stable", "canary"] = "stable"
    """Versions to ask."""
    models: tuple[str, ...] = ()
    """Models to ask. Default: every model of the bundle."""
    rate: float = 20.0
    """Requests per second."""
    seconds: float = 30.0
    """Duration of the test."""
    timeout_seconds: float = 10.0
    """Deadline of a request."""
    out: Path | None = None
    """Folder for the figures and the plot. Default: serving/load_test in the workdir."""

    def run(self) -> None:
        require_between("--seconds", self.seconds, 0.1, MOST_REQUESTS)
        require_between("--rate", self.rate, 0.001, MOST_REQUESTS / self.seconds)
        require_between("--timeout-seconds", self.timeout_seconds, 0.001, 86_400)
        from courier_tf.commands.load_report import report
        from courier_tf.commands.load_test import load_test, server_at, to_send

        requests, kind = to_send(self.workdir, self.models, self.label, self.log)
        server = server_at(self.target)  # Before the load may break it.
        sent = load_test(self.target, requests, self.rate, self.seconds, self.timeout_seconds, kind=kind)
        out = self.out or self.workdir / schema.BUNDLE_FOLDER / "load_test"
        report(sent, self.target, server, self.rate, self.seconds, out)
