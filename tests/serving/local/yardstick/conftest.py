"""The servers with the tiny models: the local one, and TensorFlow Serving where it is on the PATH."""

import contextlib
import shutil
from email.message import Message
from typing import NamedTuple

import grpc
import pytest
import requests

from courier_tf.commands.serve import BINARY
from serving.local.http_server import HttpRequest
from serving.local.local_server import LocalServer
from tests.servers import running
from tests.serving.local.yardstick.bundle import HALF, JOINED, make_workdir


class Reply(NamedTuple):
    """What an HTTP server has answered."""

    status: int
    body: bytes
    content_type: str


class Server(NamedTuple):
    """A server that runs, and a way to ask its REST API."""

    kind: str
    port: int
    rest_port: int
    local: LocalServer | None

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        """Asks the handler of the local server without a socket, the other one by HTTP."""
        if self.local:
            given = Message()
            for name, value in headers.items():
                given[name] = value
            answer = self.local._rest.respond(HttpRequest(method, path, given, body))
            return Reply(answer.status, answer.body, answer.content_type)
        reply = requests.request(
            method, f"http://localhost:{self.rest_port}{path}", data=body, headers=headers, timeout=20
        )
        return Reply(reply.status_code, reply.content, reply.headers.get("Content-Type", ""))


@pytest.fixture(scope="session", params=["local", *([BINARY] if shutil.which(BINARY) else [])])
def server(request, made_once, tmp_path_factory):
    """A server with the models of `bundle.py`."""
    workdir = made_once("yardstick", lambda folder: make_workdir(folder / "work")) / "work"
    with contextlib.ExitStack() as stack:
        if request.param == "local":
            local = LocalServer(workdir / "serving", workdir / "models", warm_up=False)
            stack.enter_context(local)
            yield Server("local", local.port, local.rest_port, local)
        else:
            folder = tmp_path_factory.mktemp("server")
            ports = stack.enter_context(running(request.param, workdir, folder, [HALF, JOINED]))
            yield Server(request.param, ports.port, ports.rest_port, None)


@pytest.fixture(scope="session")
def channel(server):
    """To the gRPC port."""
    with grpc.insecure_channel(f"localhost:{server.port}") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _differing(request):
    """A case that the local server answers otherwise fails there, or its reason is out of date."""
    server = request.getfixturevalue("server") if "server" in request.fixturenames else None
    case = request.node.callspec.params.get("case") if hasattr(request.node, "callspec") else None
    reason = case.differs if case else getattr(request.function, "differs", "")
    if reason and server and server.kind == "local":
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
