"""The model server of a demo: the newest models of a workdir, and beside them the ranker that has seen no photos."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from courier_tf.demo.ranked import WITHOUT_PHOTOS
from courier_tf.exporting import registry
from courier_tf.exporting.ctr_ranker import CtrRanker
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.served_ranker import ServedRanker
from courier_tf.exporting.versions import NewVersion, newest_version, newest_versions, write_versions
from courier_tf.ranking.comparison import start_directory
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE
from serving.bundle.configuration import BundleError, write_models_config
from serving.bundle.releases import Releases
from serving.local.local_server import LocalServer


class RankerWithoutPhotos(CtrRanker):
    """The descriptor of the ranker of the mode `none`."""

    name = WITHOUT_PHOTOS

    def settings(self, stages: FinishedStages) -> dict[str, Any]:
        return {"mode": NO_VISUAL_FEATURE}

    def build(self, stages: FinishedStages, version: int) -> ServedRanker:
        start = stages.rank.facts.best_start[NO_VISUAL_FEATURE]
        return ServedRanker(start_directory(stages.rank.path, NO_VISUAL_FEATURE, start), stages.history_length, version)


def can_compare(stages: FinishedStages) -> bool:
    """Whether a ranker without photos was trained beside the one that is served."""
    return NO_VISUAL_FEATURE in stages.rank.facts.modes and stages.mode != NO_VISUAL_FEATURE


@contextlib.contextmanager
def served(stages: FinishedStages, models: Path) -> Iterator[str]:
    """Serves the newest version of each model of a workdir, and the ranker without photos if there is one.

    Args:
        stages: of the workdir.
        models: its folder of exported models, which is only read.

    Yields:
        HOST:PORT of the server's gRPC.

    Raises:
        BundleError: a model is not exported.
    """
    with tempfile.TemporaryDirectory(prefix="courier-demo-") as temporary:
        folder = Path(temporary)
        for name in registry.model_names():
            newest = newest_version(models / name)
            if newest is None:
                raise BundleError(f"{models / name} has no version: run 'courier export'")
            (folder / name).mkdir()
            (folder / name / newest.name).symlink_to(newest.resolve(), target_is_directory=True)
        names = registry.model_names()
        if can_compare(stages):
            write_versions(folder, [NewVersion(RankerWithoutPhotos(), stages)])
            names.append(WITHOUT_PHOTOS)
        write_models_config(folder, newest_versions(folder, names), Releases())
        with LocalServer(folder, folder, warm_up=False) as server:
            yield f"localhost:{server.port}"
