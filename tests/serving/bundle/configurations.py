"""Configurations of one model."""

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig


def config(versions, labels):
    made = ModelServerConfig()
    model = made.model_config_list.config.add()
    model.name = "m"
    model.model_version_policy.specific.versions.extend(versions)
    for label, version in labels.items():
        model.version_labels[label] = version
    return made


ONE, TWO = {"stable": 1, "canary": 1}, {"stable": 1, "canary": 2}
