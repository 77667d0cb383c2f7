"""The calls of a client: the requests that each needs, and the answer in theirs. Nothing is sent here."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from serving.client import contract
from serving.client.contract import RowStatus
from serving.client.photos import as_png

Arrays = Mapping[str, np.ndarray]
#: Gives the label for a user, and for None the one for requests without a user.
LabelOf = Callable[[str | None], str | None]
_ANSWER = TypeVar("_ANSWER")


@dataclasses.dataclass(frozen=True)
class Photos:
    """The answer of `image_embedder`.

    Attributes:
        status: [B] `RowStatus`.
        embedding: [B, D].
        cluster_id: [B], the nearest cluster; -1 for a photo that cannot be used. An item of the catalogue may stay in
            another one, which its retrained ranker knows it by: `cluster_id` in `item_clusters.parquet`.
        codes: [B, L], one code for each level of the codebook.
        model_version: the version that has answered.
    """

    status: np.ndarray
    embedding: np.ndarray
    cluster_id: np.ndarray
    codes: np.ndarray
    model_version: int


@dataclasses.dataclass(frozen=True)
class Similar:
    """The answer of `similar_items` for one row: items with their cosines, the most similar first."""

    status: RowStatus
    items: tuple[str, ...]
    similarity: np.ndarray
    model_version: int


@dataclasses.dataclass(frozen=True)
class Scores:
    """Click probabilities of the candidates or pairs.

    Attributes:
        probability: [N], in the order of the request.
        model_version: the version that has answered; of several users, that for the first.
        model_versions: [N], where users of the canary and others were asked for together.
    """

    probability: np.ndarray
    model_version: int
    model_versions: np.ndarray


class Part(NamedTuple):
    """One request of a call."""

    label: str | None
    inputs: Arrays


@dataclasses.dataclass(frozen=True)
class Call(Generic[_ANSWER]):
    """A call: requests to a signature of a model, and how the answer is read in theirs.

    Attributes:
        model, signature: whom the requests go to.
        parts: the requests.
        read: makes the answer of the outputs of all requests, in their order.
    """

    model: str
    signature: str
    parts: Sequence[Part]
    read: Callable[[Sequence[Arrays]], _ANSWER]

    def versions(self, answers: Sequence[Arrays]) -> dict[str | None, set[int]]:
        """The versions that have answered, by the label of the requests."""
        versions: dict[str | None, set[int]] = {}
        for part, answer in zip(self.parts, answers, strict=True):
            versions.setdefault(part.label, set()).update(np.ravel(answer.get("model_version", [])).tolist())
        return versions


def rank(
    label_of: LabelOf,
    user: str,
    history: Sequence[str],
    candidates: Sequence[str],
    context: Mapping[str, str] | None = None,
) -> Call[Scores]:
    """The candidates of one user, in parts where there are many."""
    if not candidates:
        raise ValueError("there are no candidates to rank")
    most = contract.MAX_CANDIDATES
    parts = [candidates[start : start + most] for start in range(0, len(candidates), most)]
    row = {"user_id": _ids([user]), "history_item_ids": _histories([history])}
    row |= {name: _ids([value]) for name, value in (context or {}).items()}
    requests = [Part(label_of(user), {**row, "item_id": _ids(part)[None]}) for part in parts]

    def read(answers: Sequence[Arrays]) -> Scores:
        # A server that joins requests may have padded the candidates.
        scores = [answer["probability"][0, : len(part)] for answer, part in zip(answers, parts, strict=True)]
        version = int(answers[0]["model_version"][0])
        return Scores(np.concatenate(scores), version, np.full(len(candidates), version))

    return Call(contract.CTR_RANKER, contract.RANK, requests, read)


def score(
    label_of: LabelOf,
    users: Sequence[str],
    histories: Sequence[Sequence[str]],
    items: Sequence[str],
    context: Mapping[str, Sequence[str]] | None = None,
) -> Call[Scores]:
    """Pairs of a user (with a history) and an item."""
    if not len(users) == len(histories) == len(items) > 0:
        raise ValueError(f"{len(users)} users, {len(histories)} histories and {len(items)} items: not one of each")
    inputs = {"user_id": _ids(users), "history_item_ids": _histories(histories), "item_id": _ids(items)}
    for name, values in (context or {}).items():
        if len(values) != len(users):
            raise ValueError(f"context {name!r} has {len(values)} values for {len(users)} pairs: give one for each")
        inputs[name] = _ids(values)

    def read(outputs: Arrays) -> Scores:
        versions = outputs["model_version"]
        return Scores(outputs["probability"], int(versions[0]), versions)

    return _in_rows(contract.CTR_RANKER, contract.DEFAULT_SIGNATURE, inputs, list(map(label_of, users)), read)


def embed(label_of: LabelOf, photos: Sequence[bytes], user: str | None) -> Call[Photos]:
    """Photos, in formats that a server reads or that become PNG here."""
    if not photos:
        raise ValueError("there are no photos to embed")

    def read(outputs: Arrays) -> Photos:
        arrays = {name: outputs[name] for name in ("status", "embedding", "cluster_id", "codes")}
        return Photos(**arrays, model_version=int(outputs["model_version"][0]))

    inputs, labels = {"photos": _ids([as_png(photo) for photo in photos])}, [label_of(user)] * len(photos)
    return _in_rows(contract.IMAGE_EMBEDDER, contract.DEFAULT_SIGNATURE, inputs, labels, read)


def similar_to_items(label_of: LabelOf, items: Sequence[str], user: str | None) -> Call[list[Similar]]:
    """Items whose neighbours are sought."""
    return _similar(contract.DEFAULT_SIGNATURE, {"item_id": _ids(items)}, label_of(user))


def similar_to_photos(label_of: LabelOf, photos: Sequence[bytes], user: str | None) -> Call[list[Similar]]:
    """Photos whose neighbours are sought."""
    return _similar(contract.BY_PHOTO, {"photos": _ids([as_png(photo) for photo in photos])}, label_of(user))


def predict(label_of: LabelOf, model: str, signature: str, inputs: Arrays, user: str | None) -> Call[Arrays]:
    """Any signature of any model. Requests with too many rows for a model of this project go in parts."""
    label, rows = label_of(user), {np.shape(value)[:1] for value in inputs.values()}
    most = _most_rows(signature, inputs)
    if model in contract.SPLIT and len(rows) == 1 and max(rows) > (most,):
        return _in_rows(model, signature, inputs, [label] * max(rows)[0], lambda outputs: outputs, most)
    return Call(model, signature, [Part(label, inputs)], lambda answers: answers[0])


def _similar(signature: str, inputs: Arrays, label: str | None) -> Call[list[Similar]]:
    number = len(next(iter(inputs.values())))
    if not number:
        raise ValueError("there is nothing to be similar to")
    return _in_rows(contract.SIMILAR_ITEMS, signature, inputs, [label] * number, _similar_rows)


def _similar_rows(outputs: Arrays) -> list[Similar]:
    rows = []
    for row, status in enumerate(outputs["status"]):
        items = tuple(item.decode() for item in outputs["item_ids"][row] if item)
        similarity = outputs["similarity"][row, : len(items)]
        rows.append(Similar(RowStatus(int(status)), items, similarity, int(outputs["model_version"][row])))
    return rows


def _in_rows(
    model: str,
    signature: str,
    inputs: Arrays,
    labels: Sequence[str | None],
    read: Callable[[Arrays], _ANSWER],
    most: int = contract.MOST_ROWS,
) -> Call[_ANSWER]:
    """A call with any number of rows, each with its label. A request has rows of one label, and at most so many."""
    of_label = [[row for row, label in enumerate(labels) if label == each] for each in dict.fromkeys(labels)]
    parts = [rows[start : start + most] for rows in of_label for start in range(0, len(rows), most)]
    requests = [Part(labels[rows[0]], {name: value[rows] for name, value in inputs.items()}) for rows in parts]
    order = np.argsort(np.concatenate(parts))

    def read_rows(answers: Sequence[Arrays]) -> _ANSWER:
        return read({name: np.concatenate([answer[name] for answer in answers])[order] for name in answers[0]})

    return Call(model, signature, requests, read_rows)


def _most_rows(signature: str, inputs: Arrays) -> int:
    """The most rows of a request; a row of `rank` has as many pairs as candidates."""
    candidates = inputs["item_id"].shape[-1] if signature == contract.RANK and "item_id" in inputs else 1
    return max(1, min(contract.MOST_ROWS, contract.MAX_PAIRS // max(1, candidates)))


def _histories(histories: Sequence[Sequence[str]]) -> np.ndarray:
    """[B, 1 + longest] ids. A server that joins requests pads with the first id of each, so that is the empty id."""
    width = max(map(len, histories), default=0)
    return np.array([[b"", *map(_id, history), *[b""] * (width - len(history))] for history in histories], object)


def _ids(texts: Sequence[str | bytes]) -> np.ndarray:
    ids = np.empty(len(texts), object)
    ids[:] = [_id(text) for text in texts]
    return ids


def _id(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text
