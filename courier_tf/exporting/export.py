"""The export stage: it writes trained models as versioned SavedModels, and the bundle that a server is started with."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from courier_tf import schema
from courier_tf.exporting import registry
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.model_card import model_card, with_promotion
from courier_tf.exporting.served_model import ServedModel
from courier_tf.exporting.versions import (
    WARM_UP_LOG,
    NewVersion,
    VersionError,
    export_lock,
    newest_version,
    newest_versions,
    require_undamaged,
    write_versions,
)
from courier_tf.exporting.warm_up_requests import logged_requests
from serving.bundle.configuration import MODELS_CONFIG, write_bundle, write_scann_config
from serving.bundle.releases import Releases
from serving.bundle.roll_out import require_labels

LOG = logging.getLogger(__name__)


def export(
    stages: FinishedStages,
    workdir: Path,
    scann: bool = False,
    servers: Sequence[str] = (),
    warm_up_log: Path | None = None,
) -> list[Path]:
    """Writes a new version of each model that has changed, and the bundle.

    Args:
        stages: to export.
        workdir: gets `schema.MODELS_FOLDER` and `schema.BUNDLE_FOLDER`.
        scann: also write `similar_items` by ScaNN into `schema.SCANN_MODELS_FOLDER`: stock servers cannot load it.
        servers: HOST:PORT of running servers that read the bundle by themselves.
        warm_up_log: file or folder of a `RequestLog`; the new versions warm up with its requests.

    Returns:
        The directories of the new versions.

    Raises:
        ArtefactError: a stage is damaged, or the stages do not belong together.
        RequestLogError: the log is missing or broken, or has requests to other models.
        ClusterError, StockOpsError, WarmUpError: a model cannot be served, or does not take what the log holds.
        AddressError, RollOutError: a server does not load the new versions.
    """
    stages.require_fit()
    stages.require_undamaged()
    models, bundle = workdir / schema.MODELS_FOLDER, workdir / schema.BUNDLE_FOLDER
    logged = logged_requests(warm_up_log, registry.SERVED_MODELS) if warm_up_log else {}

    def versions(descriptors: Sequence[ServedModel]) -> list[NewVersion]:
        return [NewVersion(model, stages, logged.get(model.name, ())) for model in descriptors]

    with export_lock(models):
        written = _write_changed(models, versions(registry.SERVED_MODELS))
        newest = newest_versions(models, registry.model_names())
        releases = Releases.read(bundle)
        card = with_promotion(model_card(stages, newest), releases)
        write_bundle(bundle, newest, releases, card, servers)
        if scann:
            models, scann_models = workdir / schema.SCANN_MODELS_FOLDER, registry.scann_models()
            written += _write_changed(models, versions(scann_models))
            write_scann_config(bundle, newest_versions(models, [model.name for model in scann_models]))
        require_labels(bundle / MODELS_CONFIG, servers)
    return written


def _write_changed(models: Path, versions: Sequence[NewVersion]) -> list[Path]:
    changed = [version for version in versions if not _is_current(models, version)]
    for version in versions:
        LOG.info("[export %s] %s", version.model.name, "..." if version in changed else "unchanged, skipped")
    written = write_versions(models, changed) if changed else []
    for directory in written:
        LOG.info("[export %s] version %s", directory.parent.name, directory.name)
    return written


def _is_current(models: Path, version: NewVersion) -> bool:
    """Whether the newest version of a model is this one, and undamaged."""
    newest = newest_version(models / version.model.name)
    if newest is None:
        return False
    try:
        before = require_undamaged(newest)
    except VersionError as error:
        LOG.warning("[export %s] %s: a new version takes its place", version.model.name, error)
        return False
    made_by = version.made_by
    if WARM_UP_LOG in before.inputs and not version.logged:
        # Requests to warm up with are no reason for another version until others are named.
        made_by = dataclasses.replace(made_by, inputs={**made_by.inputs, WARM_UP_LOG: before.inputs[WARM_UP_LOG]})
    return before.key == made_by.key
