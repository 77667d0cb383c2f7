"""The workdir that the tests of served models share."""

from tests.served_shop import loaded_once, server, shop, shop_server, workdir  # noqa: F401 (fixtures)
