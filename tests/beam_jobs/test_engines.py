"""Engines of clusters: what a job asks of them, the environments of workers, and the same bytes by each."""

import contextlib
import json
import sys

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from beam_jobs.embed import embed
from beam_jobs.running import EngineError, run
from courier_tf.pretrain.frozen_encoder import export_embedder
from courier_tf.settings import EmbedSettings
from courier_tf.workdir.provenance import MadeBy

from ..served_shop import SIZE, make_workdir
from .conftest import photo
from .raw_folder import write
from .test_running import ingested

#: A process for each worker. Beam's own job service does not start those of PROCESS.
SUBPROCESS = (
    "beam:env:harness_subprocess_python:v1",
    "--environment_config",
    f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main",
)


class JobServer(LocalJobServicer):
    """Beam's own job service on loopback, in place of that of Flink or Spark. It keeps what it is asked for.

    Args:
        runs: run the jobs; otherwise each is refused once it has been asked for.
    """

    def __init__(self, runs: bool) -> None:
        super().__init__()
        self.runs, self.requests = runs, []

    def Prepare(self, request, context=None, timeout=None):  # noqa: N802 (the name of the RPC)
        self.requests.append(request)
        if not self.runs:
            raise RuntimeError("the job has been asked for")
        return super().Prepare(request, context, timeout)

    @property
    def options(self):
        """The options of the last job, without the parts of the names that Beam adds."""
        options = self.requests[-1].pipeline_options
        return {name.split(":")[2]: value for name, value in options.items() if value is not None}

    @property
    def environments(self):
        """(urn, payload) of the environments of its workers."""
        return [(env.urn, env.payload) for env in self.requests[-1].pipeline.components.environments.values()]


@contextlib.contextmanager
def job_server(runs=True):
    server = JobServer(runs)
    port = server.start_grpc_server(0)
    try:
        yield server, f"localhost:{port}"
    finally:
        server.stop()


def small(pipeline):
    _ = pipeline | beam.Create([1, 2, 3]) | beam.Map(lambda number: number)


@pytest.mark.parametrize(
    ("runner", "options", "asked"),
    [
        ("FlinkRunner", ("--parallelism", "16", "--flink_master", "flink:8081"), {"parallelism": "16"}),
        ("SparkRunner", ("--spark_master_url", "spark://spark:7077"), {"spark_master_url": "spark://spark:7077"}),
    ],
)
def test_a_job_for_flink_or_spark_is_asked_for(runner, options, asked, tmp_path):
    """Up to the request: workers of a container would need Docker, and a cluster its job server."""
    docker = ("--environment_type", "DOCKER", "--environment_config", "registry/courier-worker:1")
    with job_server(runs=False) as (server, address):
        given = ("--runner", runner, "--job_endpoint", address, *docker, *options)
        with pytest.raises(EngineError, match=f"Reading: {runner} failed: ") as error:
            run(small, given, tmp_path, "Reading")
    assert "\n" not in str(error.value)
    assert {name: server.options[name] for name in asked} == asked
    payloads = [payload for urn, payload in server.environments if urn == "beam:env:docker:v1"]
    images = [beam_runner_api_pb2.DockerPayload.FromString(payload).container_image for payload in payloads]
    assert images == ["registry/courier-worker:1"]


def test_workers_of_processes_are_asked_for(tmp_path):
    command = json.dumps({"command": "/opt/apache/beam/boot"})
    with job_server(runs=False) as (server, address):
        given = ("--runner", "FlinkRunner", "--job_endpoint", address)
        given += ("--environment_type", "PROCESS", "--environment_config", command)
        with pytest.raises(EngineError, match="FlinkRunner failed"):
            run(small, given, tmp_path, "Reading")
    payloads = [payload for urn, payload in server.environments if urn == "beam:env:process:v1"]
    assert [beam_runner_api_pb2.ProcessPayload.FromString(each).command for each in payloads] == [
        "/opt/apache/beam/boot"
    ]


@pytest.mark.slow  # The workers are processes of their own, which import TensorFlow.
@pytest.mark.parametrize("runner", ["FlinkRunner", "SparkRunner", "PortableRunner"])
@pytest.mark.parametrize(
    "environment",
    [("LOOPBACK",), SUBPROCESS],
)
def test_by_a_job_server_the_bytes_are_the_same(runner, environment, folder, tmp_path_factory):
    for number in range(6):  # Two items have no photo.
        write(folder, f"images/{number}.jpg", photo(seed=number))
    made = tmp_path_factory.mktemp("made")
    with job_server() as (server, address):
        given = ("--runner", runner, "--job_endpoint", address, "--environment_type", *environment)
        assert ingested(folder, made / "other", *given) == ingested(folder, made / "local")
    assert len(server.requests) == 1


@pytest.mark.slow
def test_many_threads_write_the_same_bytes(folder, tmp_path_factory):
    for number in range(6):
        write(folder, f"images/{number}.jpg", photo(seed=number))
    made = tmp_path_factory.mktemp("made")
    threads = ("--direct_running_mode", "multi_threading", "--direct_num_workers", "4")
    assert ingested(folder, made / "other", *threads) == ingested(folder, made / "local")


def embedded(workdir, target, *beam_options):
    """The bytes of the files of the embed job."""
    embed(workdir / "ingest", workdir / "embedder", "e", target, EmbedSettings(), MadeBy("embed", {}, {}), beam_options)
    return {file.name: file.read_bytes() for file in sorted(target.rglob("*.parquet"))}


@pytest.mark.slow
def test_embeddings_are_the_same_bytes(tmp_path):
    make_workdir(tmp_path / "w")
    export_embedder(tmp_path / "w" / "pretrain" / "encoder", SIZE, tmp_path / "w" / "embedder")
    expected = embedded(tmp_path / "w", tmp_path / "local")
    assert expected
    processes = ("--direct_running_mode", "multi_processing", "--direct_num_workers", "2")
    with job_server() as (_, address):
        by_server = ("--runner", "FlinkRunner", "--job_endpoint", address, "--environment_type")
        for number, options in enumerate([processes, (*by_server, "LOOPBACK"), (*by_server, *SUBPROCESS)]):
            assert embedded(tmp_path / "w", tmp_path / str(number), *options) == expected, options
