"""The workdir that the tests of served models share."""

from tests.served_shop import (  # noqa: F401 (fixtures)
    any_server,
    channel,
    loaded_once,
    ranker,
    server,
    shop,
    shop_server,
    stub,
    url,
    vectors,
    workdir,
)
