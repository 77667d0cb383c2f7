"""Separates Beam's own command-line options from those of this project, and names the engine of a job."""

import argparse
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

#: Runs a job in this process, or in several of them (`--direct_running_mode multi_processing`). What Beam calls
#: DirectRunner first tries to download another engine, so that the engine would depend on the network.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


class _OptionParser(argparse.ArgumentParser):
    """A parser that keeps the first declaration of an option: Beam declares some in two classes."""

    def add_argument(self, *names: Any, **settings: Any) -> Any:
        if not set(names) & set(self._option_string_actions):
            return super().add_argument(*names, **settings)
        return None


def split_beam_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command line into (ours, Beam's). Beam's are those that one of its PipelineOptions classes declares."""
    parser = _OptionParser(allow_abbrev=False, add_help=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    _, ours = parser.parse_known_args(list(arguments))
    beams, rest = [], list(ours)
    for argument in arguments:  # What the parser knows is Beam's, in the order given.
        if rest and argument == rest[0]:
            rest.pop(0)
        else:
            beams.append(argument)
    return ours, beams


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """The options of a job. Without a runner among the arguments, or with DirectRunner, it is `LOCAL_RUNNER`."""
    options = PipelineOptions(list(arguments), save_main_session=False)
    standard = options.view_as(StandardOptions)
    if (standard.runner or "direct").lower() in ("direct", "directrunner"):
        standard.runner = LOCAL_RUNNER
    return options
