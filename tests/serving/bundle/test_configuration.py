"""The bundle, read back with TF Serving's own protos; releases, labels, roll back."""

import re
from pathlib import Path

import pytest
import tensorflow as tf
import yaml
from google.protobuf import text_format
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from courier_tf.exporting import registry
from serving.bundle import warmup
from serving.bundle.configuration import BundleError, project_of, read_models_config, write_models_config
from serving.bundle.image import RELEASES, ImageError, image_for
from serving.bundle.releases import Release, ReleaseError, Releases
from serving.bundle.server_config_pb2 import BatchingParameters, MonitoringConfig
from serving.client import contract
from serving.client.contract import MOST_ROWS


def release(version):
    return Release({"ctr_ranker": version}, f"2026-01-0{version}")


def configured(tmp_path, newest, releases):
    """(versions loaded, labels) as models.config says."""
    write_models_config(tmp_path, {"ctr_ranker": newest}, releases)
    model = read_models_config(tmp_path / "models.config", tmp_path).model_config_list.config[0]
    return list(model.model_version_policy.specific.versions), dict(model.version_labels)


def test_labels_name_versions_that_are_loaded(tmp_path):
    nothing = Releases()
    assert configured(tmp_path, 1, nothing) == ([1], {"canary": 1})
    first = nothing.promote(release(1))
    assert configured(tmp_path, 1, first) == ([1], {"stable": 1, "canary": 1})
    assert configured(tmp_path, 2, first) == ([1, 2], {"stable": 1, "canary": 2})
    second = first.promote(release(2))
    assert configured(tmp_path, 2, second) == ([1, 2], {"stable": 2, "canary": 2})
    assert configured(tmp_path, 3, second) == ([1, 2, 3], {"stable": 2, "canary": 3})
    # A model that was not there at the last promotion has no stable version yet.
    assert second.labels("similar_items", 4) == {"canary": 4} and second.loaded("similar_items", 4) == [4]
    # What was rolled back is no canary again; what comes after it is.
    back = second.roll_back()
    assert configured(tmp_path, 2, back) == ([1], {"stable": 1, "canary": 1})
    assert configured(tmp_path, 3, back) == ([1, 3], {"stable": 1, "canary": 3})
    assert configured(tmp_path, 2, back.promote(release(2))) == ([1, 2], {"stable": 2, "canary": 2})


def test_releases_on_disk(tmp_path):
    assert Releases.read(tmp_path) == Releases()
    releases = Releases().promote(release(1)).promote(release(1)).promote(release(2)).roll_back()
    with releases.written_after(tmp_path):
        assert Releases.read(tmp_path) == Releases(), "not before it has happened"
    with pytest.raises(OSError, match="the server"), Releases().written_after(tmp_path):
        raise OSError("the server does not follow")
    assert [path.name for path in tmp_path.iterdir()] == ["releases.json"]
    assert Releases.read(tmp_path) == releases == Releases((release(1),), (release(2),))
    with pytest.raises(ReleaseError, match="no release before"):
        releases.roll_back()
    text = (tmp_path / "releases.json").read_text()
    for broken in (
        '{"promoted": 3}',
        '{"promoted": []}',
        "[" * 100_000,
        text.replace('"time": "', '"time": 7, "x": "'),
    ):
        (tmp_path / "releases.json").write_text(broken)
        with pytest.raises(ReleaseError, match=r"releases\.json"):
            Releases.read(tmp_path)


def test_configurations_are_read_back(shop):
    bundle = shop.workdir / "serving"
    config = read_models_config(bundle / "models.config", shop.workdir / "models")
    names = [model.name for model in config.model_config_list.config]
    assert names == registry.model_names()
    assert {model.model_platform for model in config.model_config_list.config} == {"tensorflow"}
    assert config.model_config_list.config[0].base_path == str(shop.workdir / "models" / "ctr_ranker")
    batching = text_format.Parse((bundle / "batching.config").read_text(), BatchingParameters())
    assert batching == BatchingParameters(num_batch_threads={"value": 4})
    monitoring = text_format.Parse((bundle / "monitoring.config").read_text(), MonitoringConfig())
    assert monitoring.prometheus_config.enable and monitoring.prometheus_config.path.startswith("/monitoring")


def test_what_a_server_joins(shop):
    """Photos and their pixels alone: a long list of candidates or an embedding of a wrong width would fail others."""
    for model in registry.model_names():
        file = shop.workdir / "models" / model / "1" / "batching_params.pbtxt"
        assert file.exists() == (model == contract.IMAGE_EMBEDDER)
        if file.exists():
            parameters = text_format.Parse(file.read_text(), BatchingParameters())
            assert parameters.max_execution_batch_size.value == MOST_ROWS and not parameters.pad_variable_length_inputs
            # A request of more rows is split, as far as its batches leave room for those of others.
            assert parameters.enable_large_batch_splitting.value
            assert parameters.max_batch_size.value == 16 * MOST_ROWS
            assert parameters.max_batch_size.value < MOST_ROWS * parameters.max_enqueued_batches.value / 2
            assert not parameters.HasField("num_batch_threads"), "the threads are those of the server"


def test_a_broken_models_config_is_named(tmp_path):
    with pytest.raises(BundleError, match="Run 'courier export'"):
        read_models_config(tmp_path / "models.config", tmp_path)
    (tmp_path / "models.config").write_text("model_config_list { config { nam: 3 } }")
    with pytest.raises(BundleError, match="models.config: 1:30"):
        read_models_config(tmp_path / "models.config", tmp_path)


def test_compose_mounts_what_the_configuration_names(shop):
    service = yaml.safe_load((shop.workdir / "serving" / "docker-compose.yml").read_text())["services"]["serving"]
    assert service["image"] == f"${{SERVING_IMAGE:-{image_for(tf.version.VERSION)}}}"
    # Signals reach the server: the image's own entry point would keep them.
    assert service["entrypoint"] == ["tensorflow_model_server"] and service["init"] is True
    assert all(port.startswith("${BIND:-127.0.0.1}:") for port in service["ports"])
    assert (shop.workdir / "serving" / "ready.sh").exists()
    folders = {inside: outside for outside, inside, _ in (volume.rsplit(":", 2) for volume in service["volumes"])}
    assert folders == {"/models": "../models", "/config": "."}
    files = [word.split("=/config/")[1] for word in service["command"] if "=/config/" in word]
    assert sorted(files) == ["batching.config", "models.config", "monitoring.config"]
    assert all((shop.workdir / "serving" / file).exists() for file in files)
    for flag in (
        "allow_version_labels_for_unavailable_models",
        "enable_batching",
        "enable_per_model_batching_parameters",
    ):
        assert f"--{flag}=true" in service["command"]


def test_each_workdir_has_a_compose_project_of_its_own(shop, tmp_path):
    names = {project_of(tmp_path / place / "serving") for place in ("a/work", "b/work", "b/Wörk 2", "b/-")}
    assert len(names) == 4 and all(re.fullmatch(r"courier-[a-z0-9-]*[0-9a-f]{8}", name) for name in names)
    assert project_of(tmp_path / "a/../b/work/serving") in names
    compose = yaml.safe_load((shop.workdir / "serving" / "docker-compose.yml").read_text())
    assert compose["name"] == project_of(shop.workdir / "serving")


def test_the_image_is_that_of_the_tensorflow_that_exports():
    assert image_for("2.20.1-rc0") == "tensorflow/serving:2.20.0"
    with pytest.raises(ImageError, match="TensorFlow 2.99.0 has no known image"):
        image_for("2.99.0")
    setup = (Path(__file__).parents[3] / "setup.py").read_text()
    minor = [int(number) for number in re.search(r'"tensorflow>=2\.(\d+)\.\d+,<2\.(\d+)"', setup).groups()]
    assert set(RELEASES) == {f"2.{number}" for number in range(*minor)}


def test_every_signature_is_warmed_up_with_several_sizes(shop):
    signatures = {model.name: model.signatures for model in registry.SERVED_MODELS}
    for model in registry.model_names():
        sizes: dict[str, set] = {}
        for log in warmup.read(shop.workdir / "models" / model / "1"):
            assert isinstance(log, PredictionLog)
            request = getattr(log, log.WhichOneof("log_type")).request
            assert request.model_spec.name == model
            if log.HasField("predict_log"):
                rows = {tensor.tensor_shape.dim[0].size for tensor in request.inputs.values()}
            else:
                rows = {len(request.input.example_list.examples)}
            assert len(rows) == 1
            sizes.setdefault(request.model_spec.signature_name, set()).update(rows)
        assert set(sizes) == set(signatures[model])
        assert all(rows == {1, 8, 32} for rows in sizes.values())


def test_the_model_card_names_what_is_served(shop):
    card = (shop.workdir / "serving" / "model_card.md").read_text()
    stages = shop.stages
    for stage in (stages.ingest, stages.embed, stages.cluster, stages.rank):
        assert stage.fingerprint in card, stage.path
    assert f"encoder {stages.encoder}" in card
    assert "| all | 90 | 32 | 0.6000 | 0.6000 | 0.5000 |" in card


def test_each_withdrawn_version_is_refused_whatever_stands_beside_it():
    releases = Releases().promote(Release({"a": 1, "b": 1}, "")).promote(Release({"a": 2, "b": 2}, "")).roll_back()
    assert releases.refused("a") == releases.refused("b") == {2} and releases.refused("c") == set()
    again = releases.promote(Release({"a": 3, "b": 2}, ""))
    assert again.refused("a") == {2} and again.refused("b") == set()
