"""The proxy's configuration, run by nginx in front of a server: TLS, tokens, and what does not pass."""

import contextlib
import datetime
import http.server
import ipaddress
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest
from tensorflow_serving.apis.model_service_pb2_grpc import ModelServiceStub
from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from tests.servers import free_port
from tests.strict_replica import StrictReplica

NGINX = shutil.which("nginx")
CONFIG = Path(__file__).parents[3] / "serving" / "proxy" / "nginx.conf"
MODELS = """model_config_list { config { name: "m" version_labels { key: "stable" value: 1 }
  model_version_policy { specific { versions: 1 } } } }"""
TOKEN = {"authorization": "Bearer s3cret"}
pytestmark = pytest.mark.skipif(not NGINX, reason="nginx is not installed: apt-get install nginx")


class Server(StrictReplica):
    """Answers each prediction with the name of its model, and notes the deadlines."""

    deadlines: list[float] = []

    def Predict(self, request, context):
        self.deadlines.append(context.time_remaining())
        return PredictResponse(model_spec=request.model_spec)


class Rest(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_):
        pass


class Door(NamedTuple):
    address: str
    certificate: Path
    server: Server

    def channel(self):
        return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(self.certificate.read_bytes()))

    def rest(self, path, **options):
        return requests.post(f"https://{self.address}{path}", verify=str(self.certificate), timeout=10, **options)


def write_certificate(folder):
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).add_extension(names, False)
    (folder / "server.crt").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    kind = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.key").write_bytes(key.private_bytes(*kind))


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    for name in ("tls", "logs"):
        (folder / name).mkdir()
    write_certificate(folder / "tls")
    (folder / "tokens.conf").write_text('"Bearer s3cret" shop;\n')
    (folder / "models.config").write_text(MODELS)
    with contextlib.ExitStack() as running:
        rest = running.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Rest))
        threading.Thread(target=rest.serve_forever, daemon=True).start()
        running.callback(rest.shutdown)
        server = running.enter_context(Server(folder / "models.config"))
        text = CONFIG.read_text().replace("listen 8443", f"listen 127.0.0.1:{port}")
        text = text.replace("serving:8500", server.address).replace("serving:8501", f"127.0.0.1:{rest.server_port}")
        (folder / "nginx.conf").write_text(text)
        options = "daemon off; master_process off; pid logs/nginx.pid; error_log logs/error.log;"
        command = [NGINX, "-p", str(folder), "-c", "nginx.conf", "-e", "logs/error.log", "-g", options]
        process = subprocess.Popen(command)
        running.callback(process.wait)
        running.callback(process.terminate)
        end = time.monotonic() + 20
        while True:
            assert process.poll() is None and time.monotonic() < end, (folder / "logs/error.log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield Door(f"localhost:{port}", folder / "tls/server.crt", server)


def code_of(call, request, **headers):
    try:
        call(request, timeout=10, metadata=tuple(headers.items()))
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


@pytest.mark.parametrize(
    ("headers", "code"),
    [(TOKEN, "OK"), ({}, "UNAUTHENTICATED"), ({"authorization": "Bearer s3cret2"}, "UNAUTHENTICATED")],
)
def test_calls_by_grpc(door, headers, code):
    with door.channel() as channel:
        request = PredictRequest()
        request.model_spec.name = "m"
        assert code_of(PredictionServiceStub(channel).Predict, request, **headers) == code
        status = GetModelStatusRequest(model_spec=request.model_spec)
        assert code_of(ModelServiceStub(channel).GetModelStatus, status, **headers) == code
    if code == "OK":
        assert 0 < door.server.deadlines[-1] <= 10, "the deadline travels on"


def test_large_requests_pass(door):
    with door.channel() as channel:
        request = PredictRequest()
        request.model_spec.name = "m"
        request.inputs["photos"].string_val.append(bytes(3_000_000))  # Standard gRPC servers take four megabytes.
        assert code_of(PredictionServiceStub(channel).Predict, request, **TOKEN) == "OK"
    body = bytes(20_000_000)
    assert door.rest("/v1/models/m:predict", data=body, headers=TOKEN).content == body


def test_nobody_loads_other_models(door):
    """With a token or without: whoever may, asks the replicas themselves."""
    with door.channel() as channel:
        reload = ModelServiceStub(channel).HandleReloadConfigRequest
        assert code_of(reload, ReloadConfigRequest(), **TOKEN) == code_of(reload, ReloadConfigRequest())
        assert code_of(reload, ReloadConfigRequest(), **TOKEN) == "PERMISSION_DENIED"


def test_calls_by_rest(door):
    assert door.rest("/v1/models/m:predict", data=b"{}", headers=TOKEN).text == "{}"
    assert door.rest("/v1/models/m:predict", data=b"{}").status_code == 401
    assert door.rest("/monitoring/prometheus/metrics", headers=TOKEN).status_code == 404
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"https://{door.address}/v1/models/m", timeout=10)  # Its certificate is not known.
    assert requests.get(f"http://{door.address}/v1/models/m", headers=TOKEN, timeout=10).status_code == 400


def test_a_server_that_is_down(door):
    """gRPC's own code, with which a client tries again, and no page of HTML."""
    door.server._server.stop(0).wait()
    with door.channel() as channel:
        assert code_of(PredictionServiceStub(channel).Predict, PredictRequest(), **TOKEN) == "UNAVAILABLE"
