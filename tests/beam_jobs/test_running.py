"""Engines: the same files by each, and one line where one cannot run a job or fails."""

import time

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics

from beam_jobs import work_done
from beam_jobs.ingest import ingest
from beam_jobs.options import LOCAL_RUNNER, pipeline_options
from beam_jobs.running import EngineError, run
from courier_tf.settings import IngestSettings
from courier_tf.workdir.provenance import MadeBy

from .conftest import photo
from .raw_folder import write

PORTABLE = ("--runner", "PortableRunner", "--job_endpoint", "embed", "--environment_type", "LOOPBACK")
SMALL = IngestSettings(image_size=16, shards=2, max_missing_photo_fraction=1.0)


def ingested(folder, target, *beam_options):
    """The bytes of each file that the job has written."""
    ingest(str(folder), target, SMALL, MadeBy("ingest", {}, {}), beam_options)
    files = {str(file.relative_to(target)): file.read_bytes() for file in sorted(target.rglob("*")) if file.is_file()}
    return {name: content for name, content in files.items() if name != "artefact.json"}


@pytest.mark.slow  # Its workers start anew for each step: a minute.
@pytest.mark.parametrize(
    "options", [PORTABLE, ("--direct_running_mode", "multi_processing", "--direct_num_workers", "2")]
)
def test_engines_write_the_same_bytes(folder, tmp_path_factory, options):
    for number in range(6):  # Two items have no photo.
        write(folder, f"images/{number}.jpg", photo(seed=number))
    made = tmp_path_factory.mktemp("made")
    assert ingested(folder, made / "other", *options) == ingested(folder, made / "local")


@pytest.mark.parametrize("given", [(), ("--runner", "DirectRunner"), ("--runner", "direct")])
def test_the_local_engine_needs_no_network(given):
    assert pipeline_options(given).get_all_options()["runner"] == LOCAL_RUNNER


def test_another_engine_is_kept():
    assert pipeline_options(["--runner", "FlinkRunner"]).get_all_options()["runner"] == "FlinkRunner"


@pytest.mark.parametrize("options", [(), PORTABLE])
def test_a_counter_that_stays_0(options, tmp_path):
    def build(pipeline):
        _ = pipeline | beam.Create([1, 2]) | beam.Map(counted)

    counters = run(build, options, tmp_path, "Counting", "tests")
    assert counters == {"seen": 2}  # Some engines tell counters of 0, and others do not.


def counted(number):
    Metrics.counter("tests", "seen").inc()
    Metrics.counter("tests", "never").inc(0)
    return number


@pytest.mark.parametrize("options", [(), PORTABLE])
def test_the_counters_are_those_of_the_end_and_not_of_a_look_before(options, tmp_path, monkeypatch):
    monkeypatch.setattr(work_done, "POLL_SECONDS", 0.01)

    def build(pipeline):
        _ = pipeline | beam.Create([1, 2]) | beam.Map(slowly_counted)

    assert run(build, options, tmp_path, "Counting", "tests") == {"seen": 2}


def slowly_counted(number):
    time.sleep(0.3)
    return counted(number)


def test_a_job_that_fails_on_another_engine_ends_in_one_line(tmp_path):
    def build(pipeline):
        _ = pipeline | beam.Create([0]) | beam.Map(lambda number: 1 // number)

    with pytest.raises(EngineError, match="Dividing: PortableRunner failed: .*division or modulo by zero") as told:
        run(build, PORTABLE, tmp_path, "Dividing")
    assert "\n" not in str(told.value)
    with pytest.raises(ZeroDivisionError):  # In this process its traceback says more.
        run(build, (), tmp_path, "Dividing")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--runner", "DataflowRunner", "--project", "p"), "DataflowRunner do not see .* on this machine"),
        (("--dry_run", "true"), "--dry_run runs nothing"),
        (("--runner", "NoRunner"), "NoRunner failed: Unexpected pipeline runner: NoRunner"),
        (("--runner", "PortableRunner", "--job_endpoint", "localhost:1", "--job_server_timeout", "1"), "failed: "),
    ],
)
def test_what_no_engine_can_do_is_refused(options, told, tmp_path):
    with pytest.raises(EngineError, match=told) as error:
        run(lambda pipeline: pipeline | beam.Create([1]), options, tmp_path, "Reading")
    assert "\n" not in str(error.value)
