"""The export stage: trained models to versioned SavedModels of stock ops, with warm-up and the bundle of the server."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from courier_tf import schema
from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.files import CODEBOOK_FILE
from courier_tf.exporting import warm_up_requests
from courier_tf.exporting.ctr_ranker import ServedRanker
from courier_tf.exporting.finished_stages import Stages
from courier_tf.exporting.image_embedder import ServedEmbedder
from courier_tf.exporting.model_card import model_card
from courier_tf.exporting.similar_items import ServedSimilarItems
from courier_tf.exporting.versions import (
    WARM_UP_LOG,
    NewVersion,
    exclusive,
    newest_version,
    newest_versions,
    write_versions,
)
from courier_tf.pretrain.fit import ENCODER_FOLDER
from courier_tf.pretrain.frozen_encoder import FrozenEncoder
from courier_tf.workdir import artefacts
from courier_tf.workdir.artefacts import ArtefactError, MadeBy
from serving.bundle import warmup
from serving.bundle.configuration import write_bundle, write_scann_config
from serving.bundle.messages import Request
from serving.bundle.releases import Releases


def export(
    stages: Stages,
    workdir: Path,
    scann: bool = False,
    server: str | None = None,
    warm_up_log: Path | None = None,
) -> list[Path]:
    """Writes a new version of each model that has changed, and the bundle.

    Args:
        stages: to export.
        workdir: gets `schema.MODELS_FOLDER` and `schema.BUNDLE_FOLDER`.
        scann: write `similar_items` by ScaNN, too, into `schema.SCANN_MODELS_FOLDER`: stock servers cannot load it.
        server: host:port of a running server that reads the bundle by itself.
        warm_up_log: file or folder of a `RequestLog`, whose requests the new versions warm up with.

    Returns:
        The directories of the new versions.

    Raises:
        ArtefactError: the stages do not belong together.
        RequestLogError: the log is missing or broken, or has requests to other models.
        ClusterError, StockOpsError, WarmUpError: a model cannot be served, or does not take what the log holds.
        RollOutError: the server does not load the new versions.
    """
    stages.require_fit()
    models, bundle = workdir / schema.MODELS_FOLDER, workdir / schema.BUNDLE_FOLDER
    logged = warm_up_requests.logged_requests(warm_up_log) if warm_up_log else {}
    with exclusive(models):
        written = _write_changed(models, _versions(stages), logged)
        newest = newest_versions(models)
        write_bundle(bundle, newest, Releases.read(bundle), model_card(stages, newest), server)
        if scann:
            models = workdir / schema.SCANN_MODELS_FOLDER
            written += _write_changed(models, [_scann_version(stages)], logged)
            write_scann_config(bundle, newest_versions(models))
    return written


def _write_changed(models: Path, versions: Sequence[NewVersion], logged: Mapping[str, Sequence[Request]]) -> list[Path]:
    changed = []
    for version in versions:
        newest = newest_version(models / version.model)
        if version.model in logged:
            version = _warmed_up_with(version, logged[version.model])
        if newest and _is_current(newest, version.made_by):
            print(f"[export {version.model}] unchanged, skipped", flush=True)
        else:
            print(f"[export {version.model}] ...", flush=True)
            changed.append(version)
    written = write_versions(models, changed) if changed else []
    for directory in written:
        print(f"[export {directory.parent.name}] version {directory.name}", flush=True)
    return written


def _is_current(newest: Path, made_by: MadeBy) -> bool:
    """Requests to warm up with are no reason for another version until others are named."""
    try:
        before = artefacts.read(newest, made_by.stage).made_by.inputs.get(WARM_UP_LOG)
    except ArtefactError:
        return False
    if before and WARM_UP_LOG not in made_by.inputs:
        made_by = dataclasses.replace(made_by, inputs={**made_by.inputs, WARM_UP_LOG: before})
    return artefacts.is_current(newest, made_by)


def _warmed_up_with(version: NewVersion, logged: Sequence[Request]) -> NewVersion:
    inputs = {**version.made_by.inputs, WARM_UP_LOG: warmup.fingerprint(version.model, logged)}
    return dataclasses.replace(
        version,
        made_by=dataclasses.replace(version.made_by, inputs=inputs),
        requests=lambda: warm_up_requests.with_logged(logged, version.requests()),
    )


def _versions(stages: Stages) -> list[NewVersion]:
    ingest, encoder = stages.ingest.path, stages.pretrain.path / ENCODER_FOLDER
    image_size, trained = stages.pretrain.facts["image_size"], {"encoder": stages.encoder}

    def build_embedder(version: int) -> ServedEmbedder:
        codebook = np.load(stages.cluster.path / CODEBOOK_FILE)
        return ServedEmbedder(FrozenEncoder(encoder, image_size), codebook, version)

    def build_similar_items(version: int) -> ServedSimilarItems:
        return ServedSimilarItems(FrozenEncoder(encoder, image_size), *_similar(stages.embed.path), version)

    return [
        NewVersion(
            schema.CTR_RANKER,
            MadeBy(
                "export",
                {"mode": stages.mode},
                {"rank": stages.rank.fingerprint, "cluster": stages.cluster.fingerprint},
            ),
            lambda version: ServedRanker(stages.ranker, stages.history_length, version),
            lambda: warm_up_requests.ranker_requests(ingest, stages.history_length),
        ),
        NewVersion(
            schema.IMAGE_EMBEDDER,
            MadeBy("export", {}, {**trained, "cluster": stages.cluster.fingerprint}),
            build_embedder,
            lambda: warm_up_requests.embedder_requests(ingest, image_size),
        ),
        NewVersion(
            schema.SIMILAR_ITEMS,
            MadeBy("export", {}, {**trained, "embed": stages.embed.fingerprint}),
            build_similar_items,
            lambda: warm_up_requests.similar_requests(ingest, _similar(stages.embed.path)[1][0]),
        ),
    ]


def _scann_version(stages: Stages) -> NewVersion:
    from courier_tf.exporting.scann_similar_items import ServedScannSimilarItems  # ScaNN only where it is asked for.

    image_size, ids_and_embeddings = stages.pretrain.facts["image_size"], _similar(stages.embed.path)
    encoder = stages.pretrain.path / ENCODER_FOLDER
    return NewVersion(
        schema.SIMILAR_ITEMS,
        MadeBy("export", {"search": "scann"}, {"encoder": stages.encoder, "embed": stages.embed.fingerprint}),
        lambda version: ServedScannSimilarItems(FrozenEncoder(encoder, image_size), *ids_and_embeddings, version),
        lambda: warm_up_requests.similar_requests(stages.ingest.path, ids_and_embeddings[1][0]),
        stock=False,
    )


def _similar(embed: Path) -> tuple[np.ndarray, np.ndarray]:
    """([N] bytes, [N, D] float32) of the items that have a photo."""
    items, embeddings = EmbeddingFiles(embed).all_items()
    return np.array([item.encode() for item in items], object), embeddings
