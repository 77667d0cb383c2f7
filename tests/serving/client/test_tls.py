"""TLS by gRPC and REST: who signs the servers, and certificates of clients."""

import datetime
import ipaddress
import socket
import ssl

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from serving.client.connection import Connection, Tls
from serving.client.retries import Retries
from serving.client.transport import CallError
from tests.serving.client.replicas import REPLICAS

PEM = serialization.Encoding.PEM
X = {"x": np.arange(3)}


def signed(folder, name, issuer=None, *names):
    """Writes NAME.pem and NAME.key, signed by an issuer (a pair of certificate and key) or by itself."""
    key, subject = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string(f"CN={name}")
    start = datetime.datetime(2020, 1, 1)
    by, signing = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    builder = x509.CertificateBuilder(
        by, subject, key.public_key(), x509.random_serial_number(), start, start.replace(year=2120), []
    ).add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(signing, hashes.SHA256())
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(PEM))
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.key").write_bytes(key.private_bytes(PEM, *plain))
    return certificate, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A folder with those of two authorities, of servers by name and by address, and of a client."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = signed(folder, "authority")
    signed(folder, "stranger")
    signed(folder, "address", authority, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    signed(folder, "name", authority, x509.DNSName("service"))
    signed(folder, "client", authority)
    return folder


@pytest.fixture
def secure(kind, certificates, ends):
    """Starts a replica with a certificate, which asks its clients for theirs."""

    def start(name):
        certificate, key, ca = (certificates / file for file in (f"{name}.pem", f"{name}.key", "authority.pem"))
        if kind == "grpc":
            pair = key.read_bytes(), certificate.read_bytes()
            credentials = grpc.ssl_server_credentials([pair], ca.read_bytes(), require_client_auth=True)
            replica = REPLICAS[kind]().start(credentials=credentials)
        else:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_cert_chain(certificate, key)
            replica = REPLICAS[kind]().start(context=context)
        ends.append(replica.close)
        return replica

    return start


@pytest.fixture
def full(certificates):
    return Connection(tls=Tls(certificates / "authority.pem", certificates / "client.pem", certificates / "client.key"))


def test_both_sides_show_their_certificates(secure, client_of, full, monkeypatch, certificates):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificates / "stranger.pem"))  # What is given goes before it.
    server = secure("address")
    assert client_of(server, connection=full).predict("m", "s", X)["y"].tolist() == [0, 2, 4]


def test_a_stranger_is_refused(secure, client_of, certificates):
    server = secure("address")
    once = Retries(attempts=1)
    of_a_stranger = Connection(tls=Tls(certificates / "stranger.pem"))
    without_certificate = Connection(tls=Tls(certificates / "authority.pem"))
    for connection in (of_a_stranger, without_certificate):
        with pytest.raises(CallError, match="UNAVAILABLE|FAILED_PRECONDITION"):
            client_of(server, connection=connection, retries=once, timeout_seconds=5).predict("m", "s", X)
    assert not server.asked


def test_the_certificate_of_a_name_holds_at_each_of_its_addresses(secure, client_of, kind, full, monkeypatch):
    original, server = socket.getaddrinfo, secure("name")

    def looked_up(host, *arguments, **named):
        return original("127.0.0.1" if host == "service" else host, *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    name = f"service:{server.port}" if kind == "grpc" else f"https://service:{server.port}"
    client = client_of(name, all_addresses=True, connection=full)
    assert client.predict("m", "s", X)["y"].tolist() == [0, 2, 4]
    with pytest.raises(CallError):  # The address itself is not in the certificate.
        client_of(server, connection=full, retries=Retries(attempts=1), timeout_seconds=5).predict("m", "s", X)


def test_settings_that_make_no_sense(certificates):
    with pytest.raises(ValueError, match="give both or neither"):
        Tls(certificate=certificates / "client.pem")
    with pytest.raises(ValueError, match="give one of them"):
        Connection(tls=Tls(), credentials=grpc.ssl_channel_credentials())
