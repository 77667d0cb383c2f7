"""Which replicas an address stands for, and what they say of themselves."""

import socket

import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.bundle.replicas import AddressError, Replica, addresses_of, ask, reload, require_addresses
from tests.strict_replica import StrictReplica

CONFIG = """model_config_list { config { name: "m" version_labels { key: "stable" value: 1 }
  model_version_policy { specific { versions: 1 versions: 2 } } } }"""


def resolves(monkeypatch, *addresses):
    """The DNS gives these addresses for every name."""
    families = [(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip) for ip in addresses]

    def getaddrinfo(host, port, type):
        if not addresses:
            raise socket.gaierror("Name or service not known")
        return [(family, type, 6, "", (ip, port)) for family, ip in families]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_name_stands_for_all_of_its_addresses(monkeypatch):
    resolves(monkeypatch, "10.0.0.1", "10.0.0.2", "10.0.0.1", "fd00::1")
    assert addresses_of(["serving:8500"]) == ["10.0.0.1:8500", "10.0.0.2:8500"]
    assert addresses_of(["a:1", "b:1", "b:2"]) == ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.1:2", "10.0.0.2:2"]
    resolves(monkeypatch, "fd00::1", "fd00::2")
    assert addresses_of(["serving:8500"]) == ["[fd00::1]:8500", "[fd00::2]:8500"]
    resolves(monkeypatch)
    with pytest.raises(AddressError, match="--server serving:8500: the host has no address .*start one, or do without"):
        addresses_of(["serving:8500"])


def test_addresses_as_they_are():
    assert addresses_of(["127.0.0.1:1", "[::1]:2"]) == ["127.0.0.1:1", "[::1]:2"]
    assert addresses_of(["localhost:3"]) == ["127.0.0.1:3"]


@pytest.mark.parametrize("word", ["localhost", "localhost:", ":8500", "localhost:grpc", "::1:8500", "http://a:8501"])
def test_what_is_no_address(word):
    with pytest.raises(AddressError, match="write HOST:PORT"):
        require_addresses(["localhost:8500", word])


def test_what_a_replica_says(tmp_path):
    file, config = tmp_path / "models.config", text_format.Parse(CONFIG, ModelServerConfig())
    file.write_text(CONFIG)
    config.model_config_list.config[0].version_labels["canary"] = 2
    config.model_config_list.config.add().name = "unknown"
    with StrictReplica(file, broken={("m", 2): "no such\nfile"}) as replica:
        told = ask(replica.address, config)
        while told.versions["m"] != {1: True} or not told.failed["m"]:
            told = ask(replica.address, config)
        assert told == Replica({"m": {1: True}}, {"m": {"stable": 1}}, {"m": {2: r"no such\nfile"}})
        assert told.has_loaded("m", 1) and not told.has_loaded("m", 2) and not told.has_loaded("unknown", 1)
        config.model_config_list.config[0].version_labels["stable"] = 2
        assert reload(replica.address, config).startswith("FAILED_PRECONDITION: Request to assign label")
        config.model_config_list.config[0].version_labels["stable"] = 1
        assert reload(replica.address, config) == ""
    assert ask(replica.address, config).silence.startswith("UNAVAILABLE")
