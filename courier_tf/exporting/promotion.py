"""Which exported versions a server gives its users: promote the newest, or go back to those before."""

import datetime
import logging
from collections.abc import Sequence
from pathlib import Path

from courier_tf import schema
from courier_tf.exporting import registry
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.model_card import update_card
from courier_tf.exporting.promotion_checks import measure
from courier_tf.exporting.versions import (
    VersionError,
    export_lock,
    newest_versions,
    require_undamaged,
    version_directory,
)
from courier_tf.settings import PromotionSettings
from courier_tf.workdir.atomic import replace_directory
from courier_tf.workdir.snapshot import write_snapshot
from serving.bundle.configuration import MODELS_CONFIG, write_models_config
from serving.bundle.releases import Release, ReleaseError, Releases
from serving.bundle.roll_out import require_labels

LOG = logging.getLogger(__name__)
PREVIOUS_SNAPSHOT = ".promoted.previous"  # In the workdir: the snapshot that a roll back restores.


def promote(
    workdir: Path, tolerances: PromotionSettings, servers: Sequence[str] = (), withdrawn: bool = False
) -> Release:
    """Makes the newest versions the stable ones, if they pass the promotion checks.

    Then encoder, clusters and rankers are kept in `schema.PROMOTED_FOLDER` of the workdir, which the next run can start
    from, and those of the release before in `PREVIOUS_SNAPSHOT`.

    Args:
        workdir: with the stages, the models and the bundle.
        tolerances: of the comparison with the stable versions, and the faults that are accepted.
        servers: HOST:PORT of running servers that read the bundle by themselves.
        withdrawn: also take versions that were rolled back or withdrawn.

    Returns:
        The release that is stable now.

    Raises:
        ArtefactError: a stage is missing or damaged; nothing has changed.
        PromotionError: with every reason against it; nothing has changed.
        ReleaseError: some of these versions were rolled back or withdrawn; nothing has changed.
        AddressError, RollOutError: a server does not load them.
    """
    models, bundle = workdir / schema.MODELS_FOLDER, workdir / schema.BUNDLE_FOLDER
    with export_lock(models):
        releases, newest = Releases.read(bundle), newest_versions(models, registry.model_names())
        stable = releases.stable.versions if releases.stable else None
        refused = {model: version for model, version in newest.items() if version in releases.refused(model)}
        if refused and not withdrawn:
            raise ReleaseError(f"{refused} were rolled back or withdrawn; --promote-withdrawn promotes them anyway")
        stages = FinishedStages.read(workdir)
        stages.require_undamaged()
        measured = measure(stages, models, newest, stable, tolerances)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        release = _switch(bundle, newest, releases.promote(Release(newest, now, *measured)), servers)
        _take_snapshot(workdir, keep=release != releases.stable)
        return release


def roll_back(workdir: Path, servers: Sequence[str] = ()) -> Release:
    """Makes the versions before the stable ones the stable ones again; returns their release.

    The snapshot of these versions takes the place of the present one, if it is still there. It is there for the release
    before the last promotion only; after a second roll back the snapshot stays, with a warning.

    Raises:
        ReleaseError: there are none, or they are deleted or damaged; nothing has changed.
        AddressError, RollOutError: a server does not load them.
    """
    models, bundle = workdir / schema.MODELS_FOLDER, workdir / schema.BUNDLE_FOLDER
    with export_lock(models):
        releases = Releases.read(bundle).roll_back()
        for model, version in releases.promoted[-1].versions.items():
            directory = version_directory(models, model, version)
            if not directory.is_dir():
                raise ReleaseError(f"{directory} is gone: there is nothing to roll back to")
            try:
                require_undamaged(directory)
            except VersionError as error:
                raise ReleaseError(f"not rolled back: {error}") from error
        release = _switch(bundle, newest_versions(models, registry.model_names()), releases, servers)
        _restore_snapshot(workdir)
        return release


def withdraw(workdir: Path, servers: Sequence[str] = ()) -> Release:
    """Makes the newest versions no canary any more; returns what is stable, and the canary now.

    Raises:
        ReleaseError: nothing is stable, or the newest versions are; nothing has changed.
        AddressError, RollOutError: a server does not load the versions.
    """
    models, bundle = workdir / schema.MODELS_FOLDER, workdir / schema.BUNDLE_FOLDER
    with export_lock(models):
        newest = newest_versions(models, registry.model_names())
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return _switch(bundle, newest, Releases.read(bundle).withdraw(Release(newest, now)), servers)


def _switch(bundle: Path, newest: dict[str, int], releases: Releases, servers: Sequence[str]) -> Release:
    with releases.written_after(bundle):
        write_models_config(bundle, newest, releases, servers)
    update_card(bundle, releases)
    require_labels(bundle / MODELS_CONFIG, servers)
    stable = releases.promoted[-1]
    for model, version in stable.versions.items():
        labels = ", ".join(f"{label} {number}" for label, number in releases.labels(model, newest[model]).items())
        LOG.info("[export %s] version %d is stable (labels: %s)", model, version, labels)
    return stable


def _take_snapshot(workdir: Path, keep: bool) -> None:
    """Writes the snapshot of a promotion; `keep` keeps the snapshot of the release before."""
    snapshot, previous = workdir / schema.PROMOTED_FOLDER, workdir / PREVIOUS_SNAPSHOT
    if keep and snapshot.exists():
        replace_directory(snapshot, previous)
    try:
        write_snapshot(workdir)
    except BaseException:
        if previous.exists() and not snapshot.exists():
            previous.rename(snapshot)
        raise
    LOG.info("[export] %s holds what these versions were made from: --previous can start from it", snapshot)


def _restore_snapshot(workdir: Path) -> None:
    snapshot, previous = workdir / schema.PROMOTED_FOLDER, workdir / PREVIOUS_SNAPSHOT
    if previous.exists():
        replace_directory(previous, snapshot)
    else:
        LOG.warning("[export] %s still belongs to the release that was rolled back: do not start from it", snapshot)
