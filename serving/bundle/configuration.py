"""Writes the folder that a server is started with: configurations, compose file and model card."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from courier_tf import schema
from courier_tf.workdir.atomic import write_file
from serving.bundle.batching import threads
from serving.bundle.image import image_for
from serving.bundle.releases import Releases
from serving.bundle.roll_out import roll_out
from serving.bundle.server_config_pb2 import MonitoringConfig

MODELS_CONFIG, BATCHING_CONFIG, MONITORING_CONFIG = "models.config", "batching.config", "monitoring.config"
SCANN_CONFIG, COMPOSE_FILE, READY_FILE = "models_scann.config", "docker-compose.yml", "ready.sh"
MODELS_IN_CONTAINER, SCANN_MODELS_IN_CONTAINER = "/models", "/models_scann"
PROJECT_IN_COMPOSE, IMAGE_IN_COMPOSE = "@PROJECT@", "@IMAGE@"  # What the compose file of a bundle is given.
COMMENT = """# Written by `courier export`. A request without a version or a label goes to the highest loaded version,
# which may be the canary. So name the label.
"""
METRICS_PATH = "/monitoring/prometheus/metrics"


class BundleError(ValueError):
    """A file of the bundle is missing or broken."""


def write_bundle(
    bundle: Path, newest: Mapping[str, int], releases: Releases, model_card: str, servers: Sequence[str] = ()
) -> None:
    """Writes the whole bundle. The file that a running server follows comes last.

    Args:
        bundle: folder to write, beside the folder of the models.
        newest: model -> highest version.
        releases: the releases so far.
        model_card: text of the model card.
        servers: see `write_models_config`.
    """
    bundle.mkdir(parents=True, exist_ok=True)
    compose = Path(__file__).with_name(COMPOSE_FILE).read_text().replace(PROJECT_IN_COMPOSE, project_of(bundle))
    write_file(bundle / COMPOSE_FILE, compose.replace(IMAGE_IN_COMPOSE, image_for(tf.version.VERSION)))
    write_file(bundle / READY_FILE, Path(__file__).with_name(READY_FILE).read_text())
    write_file(bundle / schema.MODEL_CARD, model_card)
    write_file(bundle / BATCHING_CONFIG, threads())
    monitoring = MonitoringConfig()
    monitoring.prometheus_config.enable, monitoring.prometheus_config.path = True, METRICS_PATH
    write_file(bundle / MONITORING_CONFIG, text_format.MessageToString(monitoring))
    write_models_config(bundle, newest, releases, servers)


def project_of(bundle: Path) -> str:
    """The name of the Compose project of a bundle: each workdir has one of its own, so that none stops another's."""
    place = bundle.resolve().parent
    readable = re.sub(r"[^a-z0-9]+", "-", place.name.lower()).strip("-")[:30]
    return "-".join(filter(None, ("courier", readable, hashlib.sha256(os.fsencode(place)).hexdigest()[:8])))


def write_models_config(
    bundle: Path, newest: Mapping[str, int], releases: Releases, servers: Sequence[str] = ()
) -> None:
    """Writes which versions a server loads, and which of them is `stable` and which the `canary`.

    Args:
        bundle, newest, releases: see `write_bundle`.
        servers: HOST:PORT of the gRPC of the servers that follow the file by themselves. Labels move once all have
            loaded the versions that they name. None where no server follows, or where `courier serve` moves the labels.

    Raises:
        AddressError: a word is no HOST:PORT, or its host is unknown.
        RollOutError: a server does not load the versions.
    """
    config = ModelServerConfig()
    for model, version in newest.items():
        entry = config.model_config_list.config.add()
        entry.name, entry.base_path, entry.model_platform = model, f"{MODELS_IN_CONTAINER}/{model}", "tensorflow"
        entry.model_version_policy.specific.versions.extend(releases.loaded(model, version))
        for label, labelled in releases.labels(model, version).items():
            entry.version_labels[label] = labelled
    roll_out(bundle / MODELS_CONFIG, config, COMMENT, servers)


def write_scann_config(bundle: Path, newest: Mapping[str, int]) -> None:
    """Writes the configuration of a second server, which must be built with ScaNN's ops."""
    config = ModelServerConfig()
    for model, version in newest.items():
        entry = config.model_config_list.config.add()
        entry.name, entry.model_platform = model, "tensorflow"
        entry.base_path = f"{SCANN_MODELS_IN_CONTAINER}/{model}"
        entry.model_version_policy.specific.versions.append(version)
    write_file(
        bundle / SCANN_CONFIG,
        "# Needs a build of TensorFlow Serving with ScaNN's ops: the stock server of models.config cannot load these.\n"
        + text_format.MessageToString(config),
    )


def read_models_config(file: Path, models: Path) -> ModelServerConfig:
    """Reads models.config for a server outside a container.

    Args:
        file: models.config.
        models: folder of the models, which replaces their place in the container.

    Raises:
        BundleError: the file is missing or broken.
    """
    if not file.is_file():
        raise BundleError(f"{file} is missing. Run 'courier export' first.")
    try:
        config = text_format.Parse(file.read_text(), ModelServerConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise BundleError(f"{file}: {error}") from error
    if not config.model_config_list.config:  # A file that was cut may still be a valid, empty configuration.
        raise BundleError(f"{file} names no model")
    for entry in config.model_config_list.config:
        entry.base_path = str(models.resolve() / entry.name)
    return config
