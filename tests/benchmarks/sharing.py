"""Runs that have stages in common make them once."""

from collections.abc import Sequence
from pathlib import Path


def share_stages(workdir: Path, source: Path, stages: Sequence[str]) -> None:
    """Makes `workdir` use the stages of a workdir beside it, by symbolic links; nothing where both are the same."""
    workdir.mkdir(parents=True, exist_ok=True)
    for stage in stages if workdir != source else ():
        if not (workdir / stage).exists():
            (workdir / stage).symlink_to(Path("..") / source.name / stage)
