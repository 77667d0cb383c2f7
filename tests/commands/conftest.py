"""The workdir that the tests of what is served share."""

from tests.served_shop import any_server, channel, loaded_once, ranker, server, shop, shop_server, stub, url, workdir  # noqa: F401 (fixtures)
