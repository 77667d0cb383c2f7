"""The embeddings of an embed stage, read block by block: more items need no more memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from courier_tf import schema
from courier_tf.clusters.seeding import ClusterError
from courier_tf.escaping import printable
from courier_tf.workdir import artefacts
from courier_tf.workdir.stages import EMBED

BLOCK = 65_536  # Rows read at once.


class Block(NamedTuple):
    """Some rows of the files, [B] each."""

    items: np.ndarray  # str
    categories: np.ndarray  # str
    in_train_span: np.ndarray  # bool
    has_photo: np.ndarray  # bool
    embeddings: np.ndarray  # [items with a photo, D] float32


class TrainBlock(NamedTuple):
    """Items of the train span with a photo, [B] each."""

    items: np.ndarray  # str
    embeddings: np.ndarray  # [B, D] float32


class EmbeddingFiles:
    """The files of an embed stage. Their order is mixed, so that the first rows are a fair sample of all.

    Args:
        embed: directory of the stage.

    Attributes:
        facts: those of the stage.

    Raises (when read):
        ClusterError: embeddings of another encoder than the stage's, of another width than the first, or that are not
            finite or zero; names the file and the item.
    """

    def __init__(self, embed: Path) -> None:
        self.facts = artefacts.read(embed, EMBED).facts
        self.files = sorted((embed / schema.ITEMS_FOLDER).glob("*.parquet"))

    def blocks(self, rows: int | None = None) -> Iterator[Block]:
        """All rows, in the order of the files, at most `rows` (BLOCK) at a time."""
        widths: set[int] = set()
        for file in self.files:
            for batch in pq.ParquetFile(file).iter_batches(rows or BLOCK):
                try:
                    yield self._block(batch, widths)
                except ClusterError as error:
                    raise ClusterError(f"{file}: {error}") from error

    def train_blocks(self, rows: int | None = None) -> Iterator[TrainBlock]:
        """The rows of the train span that have a photo, at most `rows` (BLOCK) at a time."""
        for block in self.blocks(rows):
            if (block.in_train_span & block.has_photo).any():
                chosen = block.in_train_span[block.has_photo]
                yield TrainBlock(block.items[block.has_photo][chosen], block.embeddings[chosen])

    def train_sample(self, number: int) -> TrainBlock:
        """The first rows of the train span with a photo, at most `number`."""
        parts: list[TrainBlock] = []
        rows = 0
        for part in self.train_blocks():
            parts.append(TrainBlock(*(values[: number - rows] for values in part)))
            rows += len(parts[-1].items)
            if rows >= number:
                break
        if not rows:
            raise ClusterError("no item of the train span has an embedding")
        return TrainBlock(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def all_items(self) -> tuple[np.ndarray, np.ndarray]:
        """The items with a photo, of any span, and their embeddings in memory: ([N] str ordered, [N, D] float32).

        Raises:
            ClusterError: there are none.
        """
        blocks = [block for block in self.blocks() if block.has_photo.any()]
        if not blocks:
            raise ClusterError("no item has an embedding")
        items = np.concatenate([block.items[block.has_photo] for block in blocks])
        order = np.argsort(items, kind="stable")
        return items[order], np.concatenate([block.embeddings for block in blocks])[order]

    def _block(self, batch: pa.RecordBatch, widths: set[int]) -> Block:
        """The rows of a batch. Adds the widths of its embeddings to `widths`, those of the embeddings before."""
        encoders = set(batch["encoder"].to_pylist()) - {self.facts.encoder}
        if encoders:
            raise ClusterError(f"embeddings of the encoder {sorted(encoders)}, but {self.facts.encoder} is in use")
        has_photo = batch["embedding"].is_valid().to_numpy(zero_copy_only=False)
        items = np.array(batch["item_id"].to_pylist(), object)
        present = batch["embedding"].drop_null()
        widths |= set(pc.list_value_length(present).to_pylist())
        if len(widths) > 1:
            raise ClusterError(f"embeddings differ in width: {sorted(widths)}")
        flat = present.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        embeddings = flat.reshape(len(present), max(widths, default=0))
        _check(embeddings, items[has_photo])
        train = batch["in_train_span"].to_numpy(zero_copy_only=False)
        return Block(items, np.array(batch["category"].to_pylist(), object), train, has_photo, embeddings)


def _check(embeddings: np.ndarray, items: Sequence[str]) -> None:
    """Refuses embeddings [N, D] that have no direction. The message names the item, one of `items` [N].

    Raises:
        ClusterError: an embedding holds values that are not finite, or nothing but zeros.
    """
    for fault, broken in (
        ("holds values that are not finite", ~np.isfinite(embeddings).all(axis=1)),
        ("is zero", ~embeddings.any(axis=1)),
    ):
        if broken.any():
            raise ClusterError(
                f"the embedding of item {printable(items[int(broken.argmax())])} {fault} ({broken.sum()} such)"
            )
