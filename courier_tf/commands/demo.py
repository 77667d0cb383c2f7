"""`courier demo`: the demo page of a workdir, and a model server where none is named."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from courier_tf import schema
from courier_tf.commands.serve import stopped_by
from courier_tf.escaping import LONGEST_PATH, printable
from courier_tf.workdir.artefacts import ArtefactError
from serving.bundle.configuration import BundleError
from serving.client import CourierClient
from serving.client.contract import STABLE

if TYPE_CHECKING:
    from courier_tf.exporting.finished_stages import FinishedStages

LOG = logging.getLogger(__name__)
TIMEOUT_SECONDS = 10.0  # Of a call; a person waits.


def demo(workdir: Path, port: int, host: str, server: str | None) -> None:
    """Serves the page until it is interrupted or terminated.

    Args:
        workdir: of a finished run.
        port, host: where the page listens.
        server: HOST:PORT of the gRPC of a server; None starts a local one.

    Raises:
        BundleError: a package is missing, the port cannot be used, or a model is not exported.
        ArtefactError: a stage has not run, or no page view can be shown.
    """
    try:
        from werkzeug.serving import make_server

        from courier_tf.demo.app import create_app
    except ModuleNotFoundError as error:
        raise BundleError(f"the page needs the package {error.name}: pip install 'courier-tf[demo]'") from error
    from courier_tf.demo.shop import Shop
    from courier_tf.report.workdir import Missing, Workdir

    work = Workdir(workdir)
    try:
        shop, stages = Shop(work), work.stages
    except Missing as missing:
        raise ArtefactError(f"{workdir}: {missing}") from missing
    if not shop.views:
        raise ArtefactError(f"{workdir}: no page view of the valid span has a click, two history items and three items")
    with (
        _answering(server, stages, workdir / schema.MODELS_FOLDER) as (address, label, compare),
        CourierClient(address, label=label, timeout_seconds=TIMEOUT_SECONDS) as client,
    ):
        app = create_app(shop, client, printable(workdir.resolve().name, LONGEST_PATH), compare)
        try:
            page = make_server(host, port, app, threaded=True)
        except (OSError, SystemExit) as error:  # Werkzeug ends the process where a port is taken.
            raise BundleError(f"--port {port} of {host} cannot be used: another program may have it") from error
        LOG.info("The page: http://%s:%d (Ctrl-C ends it)", host, port)
        with page, stopped_by(lambda: threading.Thread(target=page.shutdown).start()):
            page.serve_forever()


@contextlib.contextmanager
def _answering(server: str | None, stages: "FinishedStages", models: Path) -> Iterator[tuple[str, str | None, bool]]:
    """The address of a server, the label to ask for, and whether it has the ranker without photos."""
    if server:
        yield server, STABLE, False
        return
    from courier_tf.demo.models import can_compare, served

    LOG.info("Loading the models of %s", models)
    with served(stages, models) as address:
        yield address, None, can_compare(stages)
