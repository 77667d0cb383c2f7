"""The demo page of the finished chain, with its model server."""

import pytest

from courier_tf import schema
from courier_tf.demo.app import create_app
from courier_tf.demo.models import can_compare, served
from courier_tf.demo.shop import Shop
from courier_tf.report.workdir import Workdir
from serving.client import CourierClient
from tests.chain.conftest import finished  # noqa: F401 (fixture)


@pytest.fixture(scope="session")
def work(finished):  # noqa: F811 (fixture)
    return Workdir(finished[1].workdir)


@pytest.fixture(scope="session")
def shop(work):
    return Shop(work)


@pytest.fixture(scope="session")
def client(work):
    assert can_compare(work.stages)
    with (
        served(work.stages, work.path / schema.MODELS_FOLDER) as address,
        CourierClient(address, label=None, timeout_seconds=60) as client,
    ):
        yield client


@pytest.fixture
def browser(shop, client):
    """Flask's client, which asks the page as a browser would."""
    return create_app(shop, client, "work", compare=True).test_client()
