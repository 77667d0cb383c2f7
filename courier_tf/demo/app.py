"""The web application of the demo: a page, photos, and JSON that the page asks for."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import flask
import numpy as np
from werkzeug.exceptions import HTTPException

import courier_tf
from courier_tf.demo.ranked import ranked
from courier_tf.demo.shop import Shop
from courier_tf.escaping import printable
from serving.client import CallError, CourierClient
from serving.client.contract import RowStatus

LOG = logging.getLogger(__name__)
MOST_UPLOADED = 20 * 2**20  # Bytes of a request.
MOST_ITEMS = 64  # Of a history or of candidates in a request.
SIMILAR = 12  # Items like a photo that are shown.
_POLICY = "default-src 'none'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; connect-src 'self'"


class BadRequest(ValueError):
    """A request that the page does not make."""


def create_app(shop: Shop, client: CourierClient, name: str, compare: bool) -> flask.Flask:
    """The application.

    Args:
        shop: what is shown.
        client: of the model server, which gives every score, embedding and similar item.
        name: of the workdir.
        compare: whether the server has the ranker without photos.
    """
    app = flask.Flask(__name__, template_folder=str(Path(__file__).parent), static_folder="static")
    app.config["MAX_CONTENT_LENGTH"] = MOST_UPLOADED

    @app.get("/")
    def page() -> str:
        return flask.render_template("page.html", name=name, mode=shop.mode, version=courier_tf.__version__)

    @app.get("/views")
    def views() -> dict[str, Any]:
        return {"views": [dataclasses.asdict(view) | _items_of(view.history + view.candidates) for view in shop.views]}

    def _items_of(ids: list[str]) -> dict[str, Any]:
        return {"items": {item: shop.described(item) for item in ids}}

    @app.get("/photo")
    def photo() -> flask.Response:
        content = shop.photos.read(flask.request.args.get("item", "").encode())
        if not content:
            flask.abort(404, "the item has no photo")
        answer = flask.Response(content, mimetype="image/png")
        answer.cache_control.max_age = 3600
        return answer

    @app.get("/search")
    def search() -> dict[str, Any]:
        hits = shop.search(flask.request.args.get("words", ""))
        return {"ids": hits} | _items_of(hits)

    @app.post("/rank")
    def rank() -> dict[str, Any]:
        asked = flask.request.get_json()
        if not isinstance(asked, dict) or not isinstance(user := asked.get("user"), str):
            raise BadRequest("'user' must be a text")
        history, candidates = _ids(asked, "history"), _ids(asked, "candidates")
        if not candidates:
            raise BadRequest("'candidates' is empty")
        places = ranked(client, user, history[-shop.history_length :], candidates, compare, shop.context_names)
        ignored = max(0, len(history) - shop.history_length)
        # What is too old for the ranker has no effect.
        return {
            "ranked": [dataclasses.asdict(place) | {"effects": [0.0] * ignored + place.effects} for place in places]
        }

    @app.post("/similar")
    def similar() -> dict[str, Any]:
        uploaded = flask.request.files.get("photo")
        if uploaded is None:
            raise BadRequest("there is no file 'photo'")
        content = uploaded.read()
        embedded = client.embed([content])
        status = RowStatus(int(embedded.status[0]))
        if status != RowStatus.OK:
            raise BadRequest(f"the photo cannot be used: {status.name.lower().replace('_', ' ')}")
        neighbours = client.similar_to_photos([content])[0]
        cluster = int(embedded.cluster_id[0])
        members, nearest = shop.of_cluster(cluster), list(neighbours.items[:SIMILAR])
        cosines = np.asarray(neighbours.similarity[:SIMILAR], float)
        return {"cluster": cluster, "members": members, "nearest": nearest, "cosines": cosines.tolist()} | _items_of(
            members + nearest
        )

    @app.after_request
    def harden(answer: flask.Response) -> flask.Response:
        answer.headers["Content-Security-Policy"] = _POLICY
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

    @app.errorhandler(BadRequest)
    def refused(error: BadRequest) -> tuple[dict[str, str], int]:
        return {"error": str(error)}, 400

    @app.errorhandler(CallError)
    def unanswered(error: CallError) -> tuple[dict[str, str], int]:
        reason = printable(str(error), 500)
        LOG.warning("the model server: %s", reason)
        return {"error": f"the model server does not answer: {reason}"}, 502

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> tuple[dict[str, str | None], int]:
        return {"error": error.description}, error.code or 500

    return app


def _ids(asked: dict[str, Any], name: str) -> list[str]:
    ids = asked.get(name)
    if not isinstance(ids, list) or not all(isinstance(item, str) for item in ids):
        raise BadRequest(f"'{name}' must be a list of item ids")
    if len(ids) > MOST_ITEMS:
        raise BadRequest(f"'{name}' has {len(ids)} items, more than {MOST_ITEMS}")
    return ids
