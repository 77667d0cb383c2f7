"""Runs a job on the engine that Beam's options name, and reports its failure in one line."""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import StandardOptions, TestOptions
from apache_beam.runners.runner import PipelineState
from rich.console import Console

from beam_jobs.options import LOCAL_RUNNER, pipeline_options
from beam_jobs.work_done import watched
from courier_tf.escaping import printable
from courier_tf.files.places import Place
from courier_tf.process import PACKAGES, short_collections

LOG = logging.getLogger(__name__)
#: Engines whose workers never run on the machine of the driver, and so never see its disk.
_ELSEWHERE = ("dataflow", "dataflowrunner")
_LONGEST = 500  # Characters of the reason that an engine gives.


class EngineError(RuntimeError):
    """A job cannot run on an engine, or failed there; the message is one line."""


def run(
    build: Callable[[beam.Pipeline], None],
    beam_options: Sequence[str],
    target: Place,
    shown: str,
    namespace: str | None = None,
    expected: Mapping[str, int] | None = None,
) -> Counter[str]:
    """Builds a pipeline, and runs it to its end.

    Args:
        build: adds the job to a pipeline.
        beam_options: Beam's command-line options. Without a runner among them the job runs in this process.
        target: folder that the workers write.
        shown: what the job does, for the spinner and for messages, such as "Embedding items".
        namespace: of the counters to return; None for none.
        expected: pieces -> how many there will be, for the lines that say how far the job is; see `work_done`.

    Returns:
        The counters above 0, by name. Those of several steps with one name are added.

    Raises:
        EngineError: the engine cannot write the target, refused the job or failed.
    """
    options = pipeline_options(beam_options)
    runner = options.view_as(StandardOptions).runner
    if isinstance(target, Path) and runner.lower() in _ELSEWHERE:
        raise EngineError(
            f"{shown}: the workers of {runner} do not see {target} on this machine. Take raw folder and workdir on a "
            "store (--workdir gs://BUCKET/FOLDER), or a runner whose workers share the disk of the workdir"
        )
    if options.view_as(TestOptions).dry_run:
        raise EngineError(
            f"{shown}: --dry_run runs nothing, and the next stage reads what this one writes. Leave it out"
        )
    with Console(stderr=True).status(shown), watched(shown, expected or {}) as watch, short_collections():
        try:
            pipeline = beam.Pipeline(options=options)
            build(pipeline)
            result = watch.result = pipeline.run()
            state = result.wait_until_finish()
        except Exception as error:
            # What a worker in this process has raised says more as it is, and so do errors of this project.
            if runner == LOCAL_RUNNER or type(error).__module__.partition(".")[0] in PACKAGES:
                raise
            LOG.debug("traceback of the engine", exc_info=error)
            raise EngineError(
                f"{shown}: {runner} failed: {reason_of(error)} (--log-level debug shows the traceback)"
            ) from error
    if state != PipelineState.DONE:
        raise EngineError(f"{shown}: {runner} ended the job with the state {state}")
    counted: Counter[str] = Counter()
    if namespace:
        for counter in result.metrics().query(MetricsFilter().with_namespace(namespace))["counters"]:
            counted[counter.key.metric.name] += counter.result or 0  # Portable engines give None for 0.
    return +counted  # Without zeros, which some engines tell and others do not.


def reason_of(error: BaseException) -> str:
    """The last line of an error that says something: engines quote the traceback of a worker beside it.

    >>> reason_of(RuntimeError("Traceback (most recent call last):\\n  File 'a.py'\\nValueError: no\\n"))
    'ValueError: no'
    """
    lines = [line.strip() for line in str(error).splitlines()]
    quoted = ("File ", "Traceback", "During handling", "The above exception", "^", "~")
    told = [line for line in lines if line and not line.startswith(quoted)]
    return printable(told[-1], _LONGEST) if told else type(error).__name__
