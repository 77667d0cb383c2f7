"""`courier serve` takes TF Serving where it is, with what the compose file says, else the local server."""

import gc
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import yaml

from courier_tf.commands import serve
from courier_tf.exporting import registry
from courier_tf.exporting.versions import newest_versions
from serving.bundle.configuration import BundleError, read_models_config, write_models_config
from serving.bundle.releases import Release, Releases
from serving.client.client import CourierClient, Retries
from tests.served_shop import IDS
from tests.servers import free_port


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
    monkeypatch.setattr(serve.shutil, "which", lambda name: str(folder / name) if (folder / name).exists() else None)
    return folder


def test_what_is_here_is_found(only):
    assert serve.available() == "local"
    program(only, "docker", "exit 1")  # A client without an engine.
    assert serve.available() == "local"
    program(only, "docker", "[ $1 = info ]")  # Without its plugin, as Debian's package is.
    assert serve.available() == "local"
    program(only, "docker", "exit 0")
    assert serve.available() == "docker"
    program(only, "tensorflow_model_server", "exit 0")
    assert serve.available() == "tensorflow_model_server"


def test_tensorflow_serving_gets_the_bundle_with_the_models_where_they_are(shop, only, tmp_path, caplog):
    caplog.set_level("INFO")
    program(
        only,
        "tensorflow_model_server",
        f'for word in "$@"; do echo "$word" >> {tmp_path}/words; case $word in '
        f"--model_config_file=*) /bin/cp ${{word#*=}} {tmp_path}/models.config;; esac; done",
    )
    serve.serve(shop.workdir / "serving", shop.workdir / "models", 1234, 1235)
    words = (tmp_path / "words").read_text().split()
    config = read_models_config(tmp_path / "models.config", shop.workdir / "models")
    raw = (tmp_path / "models.config").read_text()
    assert len(config.model_config_list.config) == 3 and str(shop.workdir / "models" / "ctr_ranker") in raw
    compose = yaml.safe_load((shop.workdir / "serving" / "docker-compose.yml").read_text())["services"]["serving"][
        "command"
    ]
    flags = [{word.split("=")[0]: word.split("=")[1].split("/")[-1] for word in given} for given in (words, compose)]
    assert flags[0] == {**flags[1], "--port": "1234", "--rest_api_port": "1235"}
    assert "by TensorFlow Serving" in caplog.text


def test_docker_gets_the_compose_file_and_the_ports(shop, only, tmp_path):
    program(only, "docker", f'echo "$* $GRPC_PORT $REST_PORT $BIND" >> {tmp_path}/words')
    folders = (shop.workdir / "serving", shop.workdir / "models")
    file = shop.workdir / "serving" / "docker-compose.yml"
    serve.serve(*folders, 1234, 1235)
    assert (tmp_path / "words").read_text().splitlines()[-1] == f"compose --file {file} up 1234 1235 127.0.0.1"
    serve.serve(*folders, 1234, 1235, host="0.0.0.0")
    assert (tmp_path / "words").read_text().splitlines()[-1] == f"compose --file {file} up 1234 1235 0.0.0.0"
    with pytest.raises(BundleError, match="--host no.such.host.invalid has no address"):
        serve.serve(*folders, 1234, 1235, host="no.such.host.invalid")


def test_docker_without_compose_is_named(shop, only):
    program(only, "docker", "[ $1 = info ]")
    with pytest.raises(BundleError, match="no plugin `compose`: install it .*or take --server local"):
        serve.serve(shop.workdir / "serving", shop.workdir / "models", 1234, 1235, "docker")


def test_a_server_that_fails_says_so(shop, only):
    program(only, "tensorflow_model_server", "exit 3")
    with pytest.raises(BundleError, match="tensorflow_model_server ended with code 3"):
        serve.serve(shop.workdir / "serving", shop.workdir / "models", 1234, 1235)


def test_nothing_to_serve(tmp_path):
    with pytest.raises(BundleError, match="Run 'courier export' first"):
        serve.serve(tmp_path / "serving", tmp_path / "models", 1234, 1235)


def test_a_port_that_is_taken(shop):
    from serving.local.local_server import LocalServer

    with (
        LocalServer(shop.workdir / "serving", shop.workdir / "models", warm_up=False) as running,
        pytest.raises(BundleError, match="cannot be used"),
    ):
        serve.serve(shop.workdir / "serving", shop.workdir / "models", running.port, 0, "local")


def when(condition, act):
    """Starts a thread that acts once the condition holds."""

    def wait():
        end = time.monotonic() + 60
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def told(request):
    """Sends us the signal, as `kill` does. SIGINT is ignored before, as in what a shell starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield lambda: os.kill(os.getpid(), request.param)
    assert signal.signal(signal.SIGINT, before) == signal.SIG_IGN


@pytest.mark.parametrize("code", [0, 130, 143])
@pytest.mark.parametrize("name", ["tensorflow_model_server", "docker"])
def test_a_server_is_told_once_and_ends_in_its_own_time(shop, only, tmp_path, told, name, code):
    script = 'case "$*" in info*|*version) exit 0;; esac; '
    script += f'trap "echo told >> {tmp_path}/said; sleep 0.3; exit {code}" INT TERM\n'
    program(only, name, script + f"echo up >> {tmp_path}/said; for i in $(seq 100); do sleep 0.1; done")
    thread = when((tmp_path / "said").exists, told)
    serve.serve(shop.workdir / "serving", shop.workdir / "models", 1234, 1235)
    thread.join()
    assert (tmp_path / "said").read_text().split() == ["up", "told"]


def test_a_signal_while_a_server_starts_ends_it(shop, only, tmp_path, told, monkeypatch):
    program(
        only,
        "tensorflow_model_server",
        f'trap "echo told >> {tmp_path}/said; exit 0" TERM\nfor i in $(seq 100); do sleep 0.1; done',
    )
    start = subprocess.Popen

    def signalled(*arguments, **options):
        process = start(*arguments, **options)
        time.sleep(1)  # Until the server listens to signals.
        told()
        return process

    monkeypatch.setattr(serve.subprocess, "Popen", signalled)
    serve.serve(shop.workdir / "serving", shop.workdir / "models", 1234, 1235, "tensorflow_model_server")
    assert (tmp_path / "said").read_text().split() == ["told"]


@pytest.mark.parametrize("broken", ["missing", "bytes", "folder"])
def test_a_server_is_served_on_when_its_bundle_breaks(shop, only, tmp_path, caplog, broken):
    bundle = shutil.copytree(shop.workdir / "serving", tmp_path / "serving")
    program(only, "tensorflow_model_server", f"echo up > {tmp_path}/up; exec sleep 60")
    config = bundle / "models.config"

    def break_it():
        config.unlink()
        if broken == "bytes":
            config.write_bytes(b"\xff no text")
        elif broken == "folder":
            config.mkdir()

    def refused():
        return caplog.text.count("not followed") > 1

    threads = [
        when((tmp_path / "up").exists, break_it),
        when(refused, lambda: os.kill(os.getpid(), signal.SIGTERM)),
    ]
    serve.serve(bundle, shop.workdir / "models", 1234, 1235)
    for thread in threads:
        thread.join()
    assert refused()


def test_the_terminal_is_not_shared(shop, only, tmp_path):
    """Ctrl-C goes to the group of processes of a terminal: it would come twice."""
    program(only, "docker", f'[ "$4" = up ] && ps -o sid= -p $$ > {tmp_path}/session; exit 0')
    serve.serve(shop.workdir / "serving", shop.workdir / "models", 1234, 1235)
    assert int((tmp_path / "session").read_text()) != os.getsid(0)


@pytest.fixture(scope="module")
def ranker_alone(shop, tmp_path_factory):
    """A copy of the bundle with one model, whose local server is up soon."""
    bundle = shutil.copytree(shop.workdir / "serving", tmp_path_factory.mktemp("alone") / "serving")
    config = read_models_config(bundle / "models.config", shop.workdir / "models")
    models = config.model_config_list.config
    rankers = [model for model in models if model.name == "ctr_ranker"]
    del models[:]
    models.extend(rankers)
    (bundle / "models.config").write_text(str(config))
    return bundle


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", "http://"])
def test_the_local_server_answers_what_it_has_begun(shop, ranker_alone, told, scheme, monkeypatch):
    from serving.bundle.graph_model import GraphModel

    ports, running, found, run = (free_port(), free_port()), threading.Event(), [], GraphModel.run
    answered, frozen = [], []

    def slow(self, *arguments, **named):
        frozen.append(gc.get_freeze_count())
        running.set()
        time.sleep(1.5)
        answered.append(run(self, *arguments, **named))
        return answered[0]

    def ask():
        retries = Retries(attempts=1000)
        target = f"{scheme}localhost:{ports[1] if scheme else ports[0]}"
        with CourierClient(target, label="canary", timeout_seconds=300, retries=retries) as client:
            client.versions("ctr_ranker")
            monkeypatch.setattr(GraphModel, "run", slow)
            found.append(client.rank("u1", IDS[:3], IDS[:9]).probability)

    threads = [threading.Thread(target=ask), when(running.is_set, told)]
    threads[0].start()
    serve.serve(ranker_alone, shop.workdir / "models", *ports, "local")
    assert len(answered) == 1  # Before the program would end.
    for thread in threads:
        thread.join()
    assert len(found) == 1 and np.isfinite(found[0]).all()
    assert frozen[0] > 100_000 and gc.get_freeze_count() == 0, "collections hold up requests"


@pytest.mark.slow
def test_the_local_server_says_what_it_serves_from_when_on(shop, ranker_alone, tmp_path):
    """As a program of its own, in whose log the moved label stands."""
    bundle, log = shutil.copytree(ranker_alone, tmp_path / "serving"), tmp_path / "log"
    code = (
        "from pathlib import Path; import sys; from courier_tf.commands.serve import serve\n"
        "from courier_tf.process import shown_logs\n"
        "with shown_logs(times=True): "
        "serve(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), 'local')"
    )
    words = [str(bundle), str(shop.workdir / "models"), str(free_port()), str(free_port())]
    with log.open("w") as file:
        server = subprocess.Popen([sys.executable, "-c", code, *words], stdout=file, stderr=file)

    def wait_for(text):
        while text not in log.read_text():
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)

    wait_for("ready")
    config = bundle / "models.config"
    config.write_text(config.read_text().replace("canary", "tomorrow"))
    wait_for("now serving")
    server.terminate()
    assert server.wait() == 0 and "'tomorrow': 1" in log.read_text().splitlines()[-1]


@pytest.fixture(scope="module")
def promoted(shop, tmp_path_factory):
    """A copy of the bundle in which every model is stable, too."""
    bundle = tmp_path_factory.mktemp("promoted") / "serving"
    shutil.copytree(shop.workdir / "serving", bundle)
    newest = newest_versions(shop.workdir / "models", registry.model_names())
    write_models_config(bundle, newest, Releases().promote(Release(newest, "")))
    return bundle


def ready(bundle, *words):
    """What the health check of the container says: (whether it is healthy, its words)."""
    service = yaml.safe_load((bundle / "docker-compose.yml").read_text())["services"]["serving"]
    kind, program, file = service["healthcheck"]["test"]
    assert (kind, program, file.split("/")) == ("CMD", "bash", ["", "config", "ready.sh"])
    done = subprocess.run([program, str(bundle / "ready.sh"), *words], timeout=20, capture_output=True, text=True)
    return done.returncode == 0, done.stdout


def test_the_health_check_asks_for_the_label_stable(shop, promoted):
    """A version that is loaded says nothing of the label: requests with it, which the client sends, would fail."""
    from serving.local.local_server import LocalServer

    with LocalServer(promoted, shop.workdir / "models", warm_up=False, poll_seconds=60) as server:
        port = str(server.rest_port)
        assert ready(promoted, port) == (True, "")
        assert ready(shop.workdir / "serving", port) == (False, "no model is stable yet: courier export --promote\n")
        served = server.models._served
        served["similar_items"] = served["similar_items"]._replace(labels={"canary": 1})
        assert ready(promoted, port) == (False, "similar_items: label stable: HTTP 400\n")
        del served["similar_items"]
        assert ready(promoted, port) == (False, "similar_items: label stable: HTTP 400\n")  # So for unknown models.
    assert not ready(promoted, port)[0]  # Nobody listens any more.
