"""The ingest job on Dataflow: a fake of the service takes the request, and runs the pipeline that was staged.

It needs the extra `beam`, which is not in the lock. The store is an emulator on loopback.
"""

import collections
import contextlib
import gzip
import http.server
import json
import os
import threading
from unittest import mock

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_jobs.ingest import ingest
from courier_tf.files import transfer
from courier_tf.files.places import place_of
from courier_tf.settings import IngestSettings
from courier_tf.workdir import artefacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST
from tests.beam_jobs.conftest import impression_log
from tests.object_stores import store

pytestmark = pytest.mark.slow
SETTINGS = IngestSettings(image_size=16, shards=2, max_reject_fraction=0.5, max_missing_photo_fraction=0.5)
JOBS = "/v1b3/projects/project-1/locations/europe-west1/jobs"


class Service(http.server.ThreadingHTTPServer):
    """A fake of Dataflow's service. It keeps the job request, and runs the staged pipeline in this process."""

    daemon_threads = True

    def __init__(self, staged):
        super().__init__(("127.0.0.1", 0), Answers)
        self.staged, self.job, self.metrics = staged, None, []

    def run_staged(self):
        (file,) = [entry.name for entry in transfer.files_below(self.staged) if entry.name.endswith("pipeline.pb")]
        pipeline = beam_runner_api_pb2.Pipeline.FromString(transfer.read_bytes(self.staged / file))
        for environment in pipeline.components.environments.values():
            environment.urn, environment.payload = python_urns.EMBEDDED_PYTHON, b""
        result = FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([]))
        result.wait_until_finish()
        step, counted = next(iter(pipeline.components.transforms)), collections.Counter()
        for counter in result.metrics().query()["counters"]:
            counted[counter.key.metric] += counter.result or 0
        for metric, number in counted.items():
            context = {"namespace": metric.namespace, "step": step}
            for more in ({}, {"tentative": "true"}):
                name = {"origin": "user", "name": metric.name, "context": context | more}
                self.metrics.append({"name": name, "scalar": number})


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        assert self.path.startswith(JOBS)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        job = json.loads(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.server.job = job
        self.server.run_staged()
        self._answer(job | {"id": "job-1", "currentState": "JOB_STATE_RUNNING"})

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.endswith("/metrics"):
            self._answer({"metrics": self.server.metrics})
        elif path.endswith("/messages"):
            self._answer({})
        else:
            self._answer({"id": "job-1", "name": self.server.job["name"], "currentState": "JOB_STATE_DONE"})

    def _answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def dataflow(staged):
    from apache_beam.internal.gcp import auth

    service = Service(staged)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    emulator = {"STORAGE_EMULATOR_HOST": os.environ["CLOUD_STORAGE_EMULATOR_ENDPOINT"]}
    with (
        mock.patch.dict(os.environ, emulator),
        mock.patch.object(PipelineOptionsValidator, "validate", lambda self: []),  # It wants an address of Google.
        mock.patch.object(auth._Credentials, "get_service_credentials", classmethod(lambda cls, options: None)),
    ):
        yield service
    service.shutdown()
    service.server_close()


@pytest.mark.filterwarnings("ignore")
def test_a_job_on_dataflow_takes_the_driver_to_its_end(raw, tmp_path):
    pytest.importorskip("apitools", reason="Dataflow needs the extra beam")
    raw.write("items", raw.items())
    raw.write("events", impression_log())
    ingest(str(raw.folder), tmp_path / "local", SETTINGS, MadeBy("ingest", {}, {}))
    with store("gs") as root, dataflow(place_of(f"{root}/staging")) as service:
        transfer.upload(raw.folder, place_of(f"{root}/shop"))
        options = [
            *("--runner", "DataflowRunner", "--project", "project-1", "--region", "europe-west1", "--no_auth"),
            *("--dataflow_endpoint", f"http://localhost:{service.server_port}", "--job_name", "courier-ingest"),
            *("--temp_location", f"{root}/tmp", "--staging_location", f"{root}/staging"),
            *("--machine_type", "n2-highmem-8", "--num_workers", "3", "--sdk_location", "container"),
            *("--sdk_container_image", "example.org/courier:0.14.0"),
        ]
        target = place_of(f"{root}/w/ingest")
        ingest(f"{root}/shop", target, SETTINGS, MadeBy("ingest", {}, {}), options)
        there, here = artefacts.read(target, INGEST), artefacts.read(tmp_path / "local", INGEST)
        assert {name: state.sha256 for name, state in there.files.items() if name.endswith(".tfrecord")} == {
            name: state.sha256 for name, state in here.files.items() if name.endswith(".tfrecord")
        }
        assert there.facts.counts == here.facts.counts
    assert service.job["name"] == "courier-ingest"
    (pool,) = service.job["environment"]["workerPools"]
    assert pool["machineType"] == "n2-highmem-8" and pool["numWorkers"] == 3
    assert [image["containerImage"] for image in pool["sdkHarnessContainerImages"]] == ["example.org/courier:0.14.0"]
    assert pool["packages"][0]["location"].startswith("storage.googleapis.com/bucket/staging/")
    asked = {entry["key"]: entry["value"] for entry in service.job["environment"]["sdkPipelineOptions"]["display_data"]}
    assert asked["temp_location"].startswith(f"{root}/tmp/") and asked["region"] == "europe-west1"
