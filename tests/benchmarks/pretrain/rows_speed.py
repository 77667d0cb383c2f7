"""Rows per second of a full training step.

python -m tests.benchmarks.pretrain.rows_speed SIDE INGEST ROWS

SIDE: ours, authors. The authors' way is in PyTorch: every slot is encoded, however often its photo occurs, multi-head
attention rebuilds the page view, and the loss compares slots with slots. Both sides take the rows of the ingest
directory INGEST in the same order, a Swin `nano` with a 256-wide head, and Adam.
"""

import sys
from pathlib import Path

import numpy as np

import courier_tf  # noqa: F401  (chooses the Keras before TensorFlow is imported)
from courier_tf.process import prepare
from tests.benchmarks.child import answer, repeated

HISTORY, PAGE_VIEW, DIM, HEADS, TEMPERATURE, RATE, BATCHES = 5, 5, 256, 4, 0.05, 1e-4, 4


def batches(ingest: Path, rows: int) -> list[dict]:
    """Some batches of the train span, as `CourierModel` takes them."""
    from courier_tf.pretrain.data import page_view_batches
    from courier_tf.pretrain.photo_store import PhotoStore
    from courier_tf.workdir import artefacts, records
    from courier_tf.workdir.stages import INGEST

    facts = artefacts.read(ingest, INGEST).facts
    store = PhotoStore.of(records.read_items(ingest, facts.item_columns), facts.image_size)
    settings = {"history_length": HISTORY, "page_view_size": PAGE_VIEW, "batch_rows": rows, "seed": 0}
    return list(page_view_batches(ingest, store, **settings).take(BATCHES))


def ours(ingest: Path, rows: int):
    import tensorflow as tf

    from courier_tf.pretrain.encoder import Encoder
    from courier_tf.pretrain.model import CourierModel
    from courier_tf.pretrain.objectives.courier import Courier

    model = CourierModel(Encoder("nano", DIM), Courier("multi_head", TEMPERATURE))
    model.compile(tf.keras.optimizers.legacy.Adam(RATE))
    data = batches(ingest, rows)
    spec = {name: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for name, value in data[0].items()}
    step = tf.function(model.train_step, input_signature=[spec], autograph=False)
    endless = iter(data * 1000)
    return lambda: step(next(endless))


def authors(ingest: Path, rows: int):
    import torch
    from torch import nn

    from courier_tf.backbone.swin_architecture import SwinArchitecture
    from tests.benchmarks.pretrain.torch_swin import torch_swin

    swin = torch_swin("nano")
    head = nn.Linear(swin.norm.normalized_shape[0], DIM)
    attention = nn.MultiheadAttention(DIM, HEADS, batch_first=True)
    parts = nn.ModuleList([swin, head, attention])
    optimizer = torch.optim.Adam(parts.parameters(), RATE, weight_decay=1e-6)
    mean, deviation = (
        torch.tensor(value).reshape(1, 3, 1, 1) for value in (SwinArchitecture.MEAN, SwinArchitecture.DEVIATION)
    )
    endless = iter([{k: v.numpy() for k, v in batch.items()} for batch in batches(ingest, rows)] * 1000)

    def step():
        batch = next(endless)
        places = np.concatenate([batch["page_view"], batch["history"]], axis=1)
        slots = torch.from_numpy(batch["photos"][places.ravel()]).permute(0, 3, 1, 2)
        embedded = nn.functional.normalize(head(swin((slots.float() - mean) / deviation)), dim=1)
        page_view, history = embedded.reshape(rows, -1, DIM).split([PAGE_VIEW, HISTORY], dim=1)
        absent = torch.from_numpy(batch["photo_items"][batch["history"]] == 0)
        absent[:, 0] &= ~absent.all(dim=1)  # Their attention turns a fully masked row into NaN.
        rebuilt, _ = attention(page_view, history, history, key_padding_mask=absent)
        rebuilt = nn.functional.normalize(rebuilt.reshape(-1, DIM), dim=1)
        logits = rebuilt @ page_view.reshape(-1, DIM).T / TEMPERATURE
        shown = torch.from_numpy(batch["photo_items"][batch["page_view"]].ravel() > 0)
        clicked = torch.from_numpy(batch["clicked"].ravel())
        logits = logits.masked_fill(~shown[None], -1e9)
        loss = nn.functional.cross_entropy(logits[clicked], torch.arange(len(logits))[clicked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main(side: str, ingest: str, rows: str) -> None:
    prepare()
    step = {"ours": ours, "authors": authors}[side](Path(ingest), int(rows))
    answer(rate=int(rows) / repeated(step))


if __name__ == "__main__":
    main(*sys.argv[1:])
