"""Beam's own command-line options, told apart from ours."""

import argparse
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions


class _OptionParser(argparse.ArgumentParser):
    """Beam declares some options in two classes; the first declaration serves."""

    def add_argument(self, *names, **settings):
        if not set(names) & set(self._option_string_actions):
            super().add_argument(*names, **settings)


def split_beam_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits a command line into (ours, Beam's): Beam's are those that one of its PipelineOptions classes declares."""
    parser = _OptionParser(allow_abbrev=False, add_help=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    _, ours = parser.parse_known_args(list(arguments))
    beams, rest = [], list(ours)
    for argument in arguments:  # What the parser did not leave over is Beam's, in the order given.
        if rest and argument == rest[0]:
            rest.pop(0)
        else:
            beams.append(argument)
    return ours, beams


def pipeline_options(arguments: Sequence[str]) -> PipelineOptions:
    """Options of a job; without a runner named, the local one."""
    return PipelineOptions(list(arguments), save_main_session=False)
