"""The files of an encoder: weights and config, and the extractor where it takes features."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from courier_tf.backbone.swin import Padding
from courier_tf.features.extractor import Extractor
from courier_tf.features.files import EXTRACTOR_FOLDER
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.head_encoder import MOST_AXES, HeadEncoder
from courier_tf.typed_json import JsonError, read_json, require_kind
from courier_tf.workdir.artefacts import fingerprint_of_file
from courier_tf.workdir.provenance import fingerprint_of

WEIGHTS_FILE = "encoder.weights.h5"
CONFIG_FILE = "encoder.json"
KIND = "kind"  # In the config: the kind of encoder.
_KINDS: dict[str, type[Encoder] | type[HeadEncoder]] = {"photos": Encoder, "features": HeadEncoder}

AnyEncoder = Encoder | HeadEncoder


class EncoderError(ValueError):
    """Saved encoder files are missing, or do not fit the encoder that should take them."""


def save_encoder(encoder: AnyEncoder, directory: Path) -> None:
    """Writes weights and config into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    encoder.save_weights(str(directory / WEIGHTS_FILE))
    (directory / CONFIG_FILE).write_text(json.dumps(config_of(encoder), indent=2))


def config_of(encoder: AnyEncoder) -> dict[str, Any]:
    """Its config, and its kind. `encoder_of` takes both."""
    (kind,) = (name for name, made in _KINDS.items() if isinstance(encoder, made))
    return {KIND: kind, **encoder.get_config()}


def encoder_of(config: Mapping[str, Any]) -> AnyEncoder:
    """An encoder with this config and random weights, under the current mixed-precision policy."""
    return _KINDS[config[KIND]](**{name: value for name, value in config.items() if name != KIND})


def save_extractor(encoder: HeadEncoder, image_size: int, directory: Path) -> str:
    """Writes the extractor of an encoder beside its files, so that they can embed photos.

    Args:
        encoder: takes features.
        image_size: side S of the photos in pixels.
        directory: with the encoder's files.

    Returns:
        Fingerprint of all that decides the features.
    """
    extractor = Extractor(encoder.sources, image_size)
    extractor.save(directory / EXTRACTOR_FOLDER)
    return fingerprint_of(extractor.fingerprints())


def fingerprint_of_encoder(directory: Path, image_size: int, extractor: str | None) -> str:
    """16 hex digits over all that embeddings depend on, the code left out.

    An encoder that stays the same then keeps its codebook. The files of a SavedModel differ from one writing to the
    next, so the fingerprint of what is in it stands for them.

    Args:
        directory: with the encoder's files.
        image_size: side S of the photos in pixels.
        extractor: fingerprint of the features; None for an encoder that takes photos.
    """
    files = [fingerprint_of_file(directory / name) for name in (WEIGHTS_FILE, CONFIG_FILE)]
    return fingerprint_of([*files, image_size, *([extractor] if extractor else [])])


def load_encoder(directory: Path) -> AnyEncoder:
    """Builds the encoder saved in `directory`, under the current mixed-precision policy.

    Raises:
        EncoderError: there is none.
    """
    if not (directory / CONFIG_FILE).exists():
        raise EncoderError(f"{directory} holds no encoder ({CONFIG_FILE} is missing)")
    encoder = encoder_of(_config(directory))
    load_weights(encoder, directory)
    return encoder


def load_weights(encoder: AnyEncoder, directory: Path) -> None:
    """Fills `encoder` with the weights saved in `directory`.

    Raises:
        EncoderError: they belong to an encoder of another kind, size or width.
    """
    saved, asked = _config(directory), encoder.get_config()
    kind = saved[KIND]
    if not isinstance(encoder, _KINDS[kind]):
        raise EncoderError(
            f"the encoder in {directory} takes {kind}, but this run trains another kind: see --trainable"
        )
    names = ("sources", "widths", "embedding_dim", "head") if kind == "features" else ("backbone", "embedding_dim")
    for name in names:
        if saved.get(name) != asked[name]:
            raise EncoderError(
                f"the encoder in {directory} has {name}={saved.get(name)}, but {asked[name]} is asked for"
            )
    encoder.load_weights(str(directory / WEIGHTS_FILE))


def holds_head(directory: Path) -> bool:
    """Whether an encoder is saved there that takes features."""
    return (directory / CONFIG_FILE).exists() and _config(directory)[KIND] == "features"


def padding_of(directory: Path) -> Padding:
    """How the Swin of a saved encoder sees padding, as in `SwinBackbone`."""
    padding: Padding = _config(directory).get("padding", "masked")
    return padding


def axes_of(directory: Path) -> int:
    """The axes of a saved encoder, of photos or of features."""
    config = _config(directory)
    if config[KIND] == "photos":
        return int(config.get("axes", 0))
    return sum(min(width, MOST_AXES) for width in config["widths"])


def _config(directory: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = read_json(directory / CONFIG_FILE)
        require_kind("the content", config, dict[str, Any])
    except JsonError as error:
        raise EncoderError(f"{directory / CONFIG_FILE} describes no encoder: {error}. Train it again") from error
    config = {KIND: "photos", **config}
    if config[KIND] not in _KINDS:
        raise EncoderError(f"{directory / CONFIG_FILE} has kind={config[KIND]!r}, but {sorted(_KINDS)} are known")
    return config
