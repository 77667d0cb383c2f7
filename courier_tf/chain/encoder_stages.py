"""The stages that make an encoder: features of photos, supervised pre-training, pre-training."""

import dataclasses
import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from courier_tf.chain.known_names import HEAD, require_known_names
from courier_tf.chain.previous_heads import require_same_side, require_unchanged, sources_of_head
from courier_tf.chain.workplace import FOREIGN, Workplace
from courier_tf.files import transfer
from courier_tf.files.places import Place
from courier_tf.settings import SUPERVISED_SETTINGS, PretrainSettings
from courier_tf.workdir import artefacts
from courier_tf.workdir.facts import EmbedFacts, EncoderFacts, FeatureFacts, IngestFacts
from courier_tf.workdir.matching import require_input
from courier_tf.workdir.provenance import fingerprint_of
from courier_tf.workdir.stages import FEATURES, INGEST, PRETRAIN, SUPERVISED

LOG = logging.getLogger(__name__)
#: The pre-training settings that encoders of photos do not depend on; of `init` the bytes count.
NOT_OF_PHOTOS = ("init", "features", "head")
#: The pre-training settings that heads do not depend on.
NOT_OF_HEADS = (
    "init", "backbone", "recompute", "supervised_steps", "supervised_batch_size", "supervised_learning_rate", "teacher",
)  # fmt: skip
#: Further ones, which results of earlier versions have recorded. They are recorded as if they were not set.
UNSET_OF_HEADS = ("head_first_steps", "backbone_learning_rate_factor")


def train_encoder(chain: Workplace) -> None:
    """Trains the encoder: supervised pre-training on the catalogue's columns or a teacher, then the objective.

    An earlier encoder, a file of foreign weights, or those that come with the backbone's name stand in for
    supervised pre-training.
    """
    from courier_tf.backbone.architectures import is_pretrained
    from courier_tf.pretrain.train import pretrain

    require_known_names(chain.settings)
    chain.require_starts()
    settings, seed = chain.settings.pretrain, chain.settings.seed
    ingested = artefacts.read(chain.directory(INGEST), INGEST)
    if _has_notebook_encoder(chain, ingested):
        return
    inputs: dict[str, str] = {INGEST: ingested.fingerprint}
    previous = chain.previous(PRETRAIN, chain.settings.previous.encoder(), ingested.facts)
    if settings.trainable == HEAD:
        _pretrain_heads(chain, ingested, inputs, previous)
        return
    start: artefacts.Artefact[EncoderFacts] | Path | None = previous
    if previous:
        require_same_side(previous, settings.backbone, ingested.facts.image_size)
    elif settings.init:
        start = Path(settings.init)
        inputs[FOREIGN] = artefacts.fingerprint_of_file(start)
    elif not is_pretrained(settings.backbone):
        start = _supervised(chain, ingested)
        inputs[SUPERVISED] = start.fingerprint
    values = {name: value for name, value in dataclasses.asdict(settings).items() if name not in NOT_OF_PHOTOS}
    made_by = chain.made_by(PRETRAIN, values, inputs, previous=previous)
    chain.unless_current(
        chain.directory(PRETRAIN),
        made_by,
        chain.made_here(
            lambda target: pretrain(
                chain.local(ingested),
                chain.local(start) if isinstance(start, artefacts.Artefact) else start,
                target,
                settings,
                seed,
                made_by,
                chain.workers,
            )
        ),
        together=True,
    )


def _pretrain_heads(
    chain: Workplace,
    ingested: artefacts.Artefact[IngestFacts],
    inputs: dict[str, str],
    previous: artefacts.Artefact[EncoderFacts] | None,
) -> None:
    """Computes the features of all photos once, then trains a head on those of each candidate.

    Raises:
        SettingsError: a feature source does not exist, or the previous encoder is no head on such features.
    """
    from courier_tf.features.sources import JOIN, Pixels, candidates_of
    from courier_tf.pretrain.objectives.registry import augments
    from courier_tf.pretrain.train_heads import pretrain_heads

    settings, seed = chain.settings.pretrain, chain.settings.seed
    if previous:
        candidates = [sources_of_head(previous, settings.features, settings.backbone)]
    else:
        candidates = candidates_of(settings.features, settings.backbone)
    sources = list(dict.fromkeys([Pixels.source, *(source for names in candidates for source in names)]))
    features = _features(chain, ingested, sources, augments(settings))
    if previous:
        decided_by = {name: artefacts.read(place, FEATURES).facts.decided_by for name, place in features.items()}
        require_unchanged(previous, chain.local(previous), decided_by)
    inputs = inputs | {FEATURES: fingerprint_of_features(features.values())}
    values = settings_of_heads(settings) | {"features": [JOIN.join(names) for names in candidates]}
    made_by = chain.made_by(PRETRAIN, values, inputs, previous=previous)
    chain.unless_current(
        chain.directory(PRETRAIN),
        made_by,
        chain.made_here(
            lambda target: pretrain_heads(
                chain.local(ingested),
                _local_features(chain, features),
                candidates,
                chain.local(previous) if previous else None,
                target,
                settings,
                seed,
                made_by,
                chain.workers,
            )
        ),
        together=True,
    )


def settings_of_heads(settings: PretrainSettings) -> dict[str, Any]:
    """Setting -> value, of those that heads depend on; `features` as they are given."""
    values = dataclasses.asdict(settings) | dict.fromkeys(UNSET_OF_HEADS)
    return {name: value for name, value in values.items() if name not in NOT_OF_HEADS}


def _features(
    chain: Workplace, ingested: artefacts.Artefact[IngestFacts], sources: Sequence[str], views: bool
) -> dict[str, Place]:
    """The features of all photos, each source for itself. Settings of heads do not touch them.

    Returns:
        Source -> its directory.
    """
    from beam_jobs.features import features
    from courier_tf.features.extractor import VIEWS
    from courier_tf.features.files import folder_of
    from courier_tf.features.sources import inputs_of

    number = VIEWS if views else 0
    made_of: dict[str, Place] = {}
    for source in sources:
        values = {"source": source, "views": number, **dataclasses.asdict(chain.settings.embed)}
        inputs = {INGEST: ingested.fingerprint, **inputs_of(source)}
        made_by = chain.made_by(FEATURES, values, inputs, seeded=False)
        made_of[source] = target = chain.features_directory(source)
        if isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
        make = functools.partial(
            features,
            chain.directory(INGEST),
            source=source,
            views=number,
            settings=chain.settings.embed,
            made_by=made_by,
            beam_options=chain.beam_options,
            known=chain.known(FEATURES, folder_of(source)),
        )
        chain.unless_current(target, made_by, make, f"{FEATURES} {source}")
        tell_photos(f"{FEATURES} {source}", artefacts.read(target, FEATURES).facts)
    return made_of


def tell_photos(name: str, facts: FeatureFacts | EmbedFacts) -> None:
    """Logs how many photos a model has run over, and how many were known."""
    if facts.photos_computed is not None:
        LOG.info("[%s] %d photos computed, %d taken over", name, facts.photos_computed, facts.photos_taken_over or 0)


def _local_features(chain: Workplace, features: Mapping[str, Place]) -> dict[str, Path]:
    return {source: chain.local(artefacts.read(place, FEATURES)) for source, place in features.items()}


def _has_notebook_encoder(chain: Workplace, ingested: artefacts.Artefact[IngestFacts]) -> bool:
    """Whether the workdir holds an encoder from a notebook, which pre-training must not replace.

    Raises:
        ArtefactError: it does, but the encoder was trained on another ingest, or is damaged.
    """
    directory = chain.directory(PRETRAIN)
    if PRETRAIN in chain.force or not artefacts.comes_from_notebook(directory):
        return False
    require_input(artefacts.read(directory, PRETRAIN), INGEST, ingested.fingerprint)
    LOG.info(
        "[%s] keeps the encoder in %s, which comes from a notebook (--force pretrain trains one)",
        PRETRAIN,
        directory,
    )
    return True


def _supervised(chain: Workplace, ingested: artefacts.Artefact[IngestFacts]) -> artefacts.Artefact[EncoderFacts]:
    """Supervised pre-training. Settings of the objective do not touch it: all objectives share one encoder."""
    from courier_tf.features.sources import Pixels, sources_of
    from courier_tf.pretrain.train_supervised import pretrain_supervised

    settings, directory = chain.settings.pretrain, chain.directory(SUPERVISED)
    inputs: dict[str, str] = {INGEST: ingested.fingerprint}
    features: dict[str, Place] | None = None
    if settings.teacher:
        # Those that a head on the teacher's features has, so that runs of an experiment share them.
        sources = list(dict.fromkeys([Pixels.source, *sources_of(settings.teacher, "teacher")]))
        features = _features(chain, ingested, sources, views=False)
        inputs[FEATURES] = fingerprint_of_features(features.values())
    values = {name: value for name, value in dataclasses.asdict(settings).items() if name in SUPERVISED_SETTINGS}
    made_by = chain.made_by(SUPERVISED, values, inputs)
    chain.unless_current(
        directory,
        made_by,
        chain.made_here(
            lambda target: pretrain_supervised(
                chain.local(ingested),
                _local_features(chain, features) if features else None,
                target,
                settings,
                chain.settings.seed,
                made_by,
                chain.workers,
            )
        ),
        together=True,
    )
    return artefacts.read(directory, SUPERVISED)


def features_of(chain: Workplace, trained: artefacts.Artefact[EncoderFacts]) -> list[Place]:
    """The features that an encoder was trained on; none where photos have to be read."""
    if FEATURES not in trained.made_by.inputs:
        return []
    directories = [chain.features_directory(source) for source in trained.facts.features]
    return directories if all(map(transfer.exists, directories)) else []


def fingerprint_of_features(directories: Iterable[Place]) -> str:
    """16 hex digits over the features of several sources."""
    return fingerprint_of([artefacts.read(directory, FEATURES).fingerprint for directory in directories])
