"""The snapshot of what a run has trained, which a later run can start from."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from courier_tf import schema
from courier_tf.workdir import artefacts, checksums
from courier_tf.workdir.atomic import replace_directory
from courier_tf.workdir.stages import CLUSTER, INGEST, PRETRAIN, RANK, Stage

#: The stages that a later run can start from.
SNAPSHOT_STAGES: Sequence[Stage] = (PRETRAIN, CLUSTER, RANK)


def write_snapshot(workdir: Path) -> Path:
    """Copies encoder, clusters, rankers and the statistics of the data into `schema.PROMOTED_FOLDER` of the workdir.

    `--previous` names it. Files are hard links where the file system has them, and copies elsewhere: stages are
    replaced as a whole and never written in place. A snapshot that is there is replaced once the new one is complete.

    Args:
        workdir: workdir with those stages finished.

    Returns:
        Directory of the snapshot.

    Raises:
        ArtefactError: a stage is not finished.
    """
    target = workdir / schema.PROMOTED_FOLDER
    partial = artefacts.partial_of(target)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for stage in SNAPSHOT_STAGES:
            source = artefacts.read(workdir / stage, stage).path
            ignored = shutil.ignore_patterns(*checksums.NOT_KEPT)
            shutil.copytree(source.resolve(), partial / stage, copy_function=_link, ignore=ignored)
        statistics = workdir / INGEST / schema.STATISTICS_FOLDER
        if statistics.is_dir():  # An ingest of an older version has none.
            shutil.copytree(statistics, partial / schema.STATISTICS_FOLDER, copy_function=_link)
        replace_directory(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # The file system has no links, or has them within one device only.
        shutil.copy2(source, target)
