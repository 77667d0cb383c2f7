"""Which requests a new version warms up with: those that a log holds, and made ones for the other signatures."""

import itertools
import logging
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from courier_tf.exporting.served_model import ServedModel
from serving.client.contract import Request
from serving.client.request_log import RequestLogError, read_log

LOG = logging.getLogger(__name__)
MOST_LOGGED, MOST_LOGGED_ROWS = 100, 1000  # Of a signature. A version is loaded after it has replayed them.


def logged_requests(log: Path, models: Sequence[ServedModel]) -> dict[str, list[Request]]:
    """Reads the newest requests to each signature from a `RequestLog`, within the limits.

    Requests to a joined model with too many rows are left out: a server would refuse them, and with them the version.

    Args:
        log: file or folder.
        models: the served models.

    Returns:
        The requests by the name of their model.

    Raises:
        RequestLogError: the log is missing, broken or empty, or has a request to another model.
    """
    by_name = {model.name: model for model in models}
    newest: defaultdict[tuple[str, str], deque[Request]] = defaultdict(lambda: deque(maxlen=MOST_LOGGED))
    too_large = 0
    for logged in read_log(log):
        model = by_name.get(logged.model)
        if model is None:
            raise RequestLogError(f"{log} holds a request to {logged.model!r}, which is none of {tuple(by_name)}")
        if model.joined and _rows(logged.request) > model.most_rows:
            too_large += 1
        else:
            newest[logged.model, logged.request.signature].append(logged.request)
    if too_large:
        LOG.info("[export] %d requests of %s have more rows than a server joins, and are left out", too_large, log)
    if not newest:
        raise RequestLogError(f"{log} holds no request that a server could warm up with")
    return _within_row_limit(newest)


def with_logged(logged: Sequence[Request], made: Sequence[Request]) -> list[Request]:
    """The logged requests, and the made ones to the signatures that the log lacks: no signature stays cold."""
    signatures = {request.signature for request in logged}
    return [*logged, *(request for request in made if request.signature not in signatures)]


def _within_row_limit(newest: Mapping[tuple[str, str], Sequence[Request]]) -> dict[str, list[Request]]:
    """The newest requests of each signature that have MOST_LOGGED_ROWS rows together, at least one of them."""
    by_model: defaultdict[str, list[Request]] = defaultdict(list)
    for (model, _), requests in newest.items():
        rows = itertools.accumulate(map(_rows, reversed(requests)))
        number = max(1, sum(total <= MOST_LOGGED_ROWS for total in rows))
        by_model[model].extend(list(requests)[-number:])
    return dict(by_model)


def _rows(request: Request) -> int:
    return max((len(value) for value in request.inputs.values() if np.ndim(value)), default=1)
