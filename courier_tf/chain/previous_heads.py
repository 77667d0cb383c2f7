"""A previous head that pre-training goes on from: it knows one kind of features alone."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from courier_tf.chain.known_names import HEAD
from courier_tf.settings import SettingsError
from courier_tf.settings.stages import AUTO_FEATURES
from courier_tf.workdir.artefacts import Artefact
from courier_tf.workdir.facts import EncoderFacts

LOG = logging.getLogger(__name__)
WITHOUT = "add --previous-encoder none"


def sources_of_head(previous: Artefact[EncoderFacts], features: Sequence[str], backbone: str) -> tuple[str, ...]:
    """The feature sources that a previous head takes, which are the only candidate.

    Args:
        previous: the encoder to go on from.
        features: `--features`. The head's own must be among them, unless `auto` is.
        backbone: `--backbone`.

    Raises:
        SettingsError: the encoder takes photos, a source of its head is gone, or `features` asks for others.
    """
    from courier_tf.features.feature_error import FeatureError
    from courier_tf.features.sources import JOIN, candidates_of, require_source

    start, sources = f"previous_encoder={previous.place}", previous.facts.features
    if not sources:
        raise SettingsError(
            f"trainable={HEAD} and {start}: that encoder takes photos. Take --trainable all, or {WITHOUT}"
        )
    for source in sources:
        try:
            require_source(source)
        except FeatureError as error:
            raise SettingsError(
                f"{start}: its head takes the features of '{source}', which cannot be had any more ({error}). Put it "
                f"back, or {WITHOUT}"
            ) from error
    joined = JOIN.join(sources)
    if AUTO_FEATURES not in features and sources not in candidates_of(features, backbone):
        raise SettingsError(
            f"features={' '.join(features)}, but {start} is a head on the features {joined}, and can go on with these "
            f"alone: take --features {joined} or --features {AUTO_FEATURES}, or {WITHOUT}"
        )
    LOG.info("[pretrain] goes on with the features %s of the previous encoder", joined)
    return sources


def require_unchanged(previous: Artefact[EncoderFacts], files: Path, decided_by: Mapping[str, str]) -> None:
    """Refuses to go on with features of a SavedModel that has changed in its place since a head was trained on them.

    Weights of packages cannot: their file names hold their checksums.

    Args:
        previous: the encoder to go on from.
        files: its directory on this machine.
        decided_by: source -> fingerprint of all that decides its vectors now.

    Raises:
        SettingsError: names the SavedModel, or those of which one has changed.
    """
    from courier_tf.features.sources import JOIN, inputs_of
    from courier_tf.pretrain.encoder_files import fingerprint_of_encoder
    from courier_tf.pretrain.fit import ENCODER_FOLDER
    from courier_tf.workdir.provenance import fingerprint_of

    facts = previous.facts
    changing = [source for source in facts.features if inputs_of(source)]
    if not changing:
        return
    extractor = fingerprint_of({source: decided_by[source] for source in facts.features})
    if fingerprint_of_encoder(files / ENCODER_FOLDER, facts.image_size, extractor) == facts.encoder:
        return
    raise SettingsError(
        f"previous_encoder={previous.place} is a head on the features {JOIN.join(facts.features)}, but "
        f"{' or '.join(changing)} has changed in its place since it was trained, and gives other features: put the "
        f"earlier one back, or {WITHOUT}"
    )


def require_same_side(previous: Artefact[EncoderFacts], backbone: str, image_size: int) -> None:
    """Refuses to go on from a head to its backbone where that sees photos of another size.

    Args:
        previous: the encoder to go on from. One that takes photos may see others.
        backbone: `--backbone`.
        image_size: side of the photos of this run, in pixels.

    Raises:
        SettingsError: the encoder would not give the embeddings of the head.
    """
    from courier_tf.backbone.architecture import SCALED
    from courier_tf.backbone.architectures import architecture

    facts = previous.facts
    if facts.features and facts.image_size != image_size and architecture(backbone).image_size is None:
        raise SettingsError(
            f"previous_encoder={previous.place} is a head on features of photos of {facts.image_size} pixels, but the "
            f"ingest of this run has image_size={image_size}, and backbone={backbone} gives other features of those: "
            f"ingest with --image-size {facts.image_size}, train the head on {backbone}{SCALED}{facts.image_size} and "
            f"take that for --backbone, too, or {WITHOUT}"
        )
