"""`courier serve` takes TF Serving where it is, with what the compose file says, else the local server."""

import os
import stat

import pytest
import yaml

from serving import start
from serving.bundle import BundleError, read_models_config


def program(folder, name, script):
    """A program of that name on an otherwise usual PATH."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


@pytest.fixture
def only(tmp_path, monkeypatch):
    """A PATH with the programs of one folder, and the shell's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin")
    monkeypatch.setattr(start.shutil, "which", lambda name: str(folder / name) if (folder / name).exists() else None)
    return folder


def test_what_is_here_is_found(only):
    assert start.available() == "local"
    program(only, "docker", "exit 1")  # A client without an engine.
    assert start.available() == "local"
    program(only, "docker", "exit 0")
    assert start.available() == "docker"
    program(only, "tensorflow_model_server", "exit 0")
    assert start.available() == "tensorflow_model_server"


def test_tensorflow_serving_gets_the_bundle_with_the_models_where_they_are(shop, only, tmp_path, capsys):
    program(
        only,
        "tensorflow_model_server",
        f'for word in "$@"; do echo "$word" >> {tmp_path}/words; case $word in '
        f"--model_config_file=*) /bin/cp ${{word#*=}} {tmp_path}/models.config;; esac; done",
    )
    start.serve(shop.workdir / "serving", shop.workdir / "models", 1234, 1235)
    words = (tmp_path / "words").read_text().split()
    config = read_models_config(tmp_path / "models.config", shop.workdir / "models")
    raw = (tmp_path / "models.config").read_text()
    assert len(config.model_config_list.config) == 3 and str(shop.workdir / "models" / "ctr_ranker") in raw
    compose = yaml.safe_load((shop.workdir / "serving" / "docker-compose.yml").read_text())["services"]["serving"][
        "command"
    ]
    flags = [{word.split("=")[0]: word.split("=")[1].split("/")[-1] for word in given} for given in (words, compose)]
    assert flags[0] == {**flags[1], "--port": "1234", "--rest_api_port": "1235"}
    assert "by TensorFlow Serving" in capsys.readouterr().out


def test_docker_gets_the_compose_file_and_the_ports(shop, only, tmp_path):
    program(only, "docker", f'echo "$* $GRPC_PORT $REST_PORT" >> {tmp_path}/words')
    start.serve(shop.workdir / "serving", shop.workdir / "models", 1234, 1235)
    words = (tmp_path / "words").read_text().splitlines()[-1]
    assert words == f"compose --file {shop.workdir / 'serving' / 'docker-compose.yml'} up 1234 1235"


def test_a_server_that_fails_says_so(shop, only):
    program(only, "tensorflow_model_server", "exit 3")
    with pytest.raises(BundleError, match="tensorflow_model_server ended with code 3"):
        start.serve(shop.workdir / "serving", shop.workdir / "models", 1234, 1235)


def test_nothing_to_serve(tmp_path):
    with pytest.raises(BundleError, match="Run 'courier export' first"):
        start.serve(tmp_path / "serving", tmp_path / "models", 1234, 1235)


def test_a_port_that_is_taken(shop):
    from serving.local_server import LocalServer

    with (
        LocalServer(shop.workdir / "serving", shop.workdir / "models", warm_up=False) as running,
        pytest.raises(BundleError, match="cannot be used"),
    ):
        start.serve(shop.workdir / "serving", shop.workdir / "models", running.port, 0, "local")
