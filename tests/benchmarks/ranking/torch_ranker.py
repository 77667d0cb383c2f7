"""The ranker of `courier_tf.ranking.model` with the image feature `cluster_id`, in plain PyTorch, fed with codes.

Histories are padded, gradients are dense, and the optimiser is `torch.optim.Adam`. Its input is arrays in memory, with
all ids looked up beforehand. Ours reads TFRecords and strings.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import normalize

from courier_tf.ranking.data import impression_batches
from courier_tf.ranking.model import Ranker
from tests.benchmarks.ranking.ours import HISTORY

NAMES = ("user", "row", "history", "clicked")


class TorchRanker(nn.Module):
    """Takes users [B], rows of items in the catalogue [B] and [B, H] (the last row for padding); gives log odds [B]."""

    def __init__(self, ranker: Ranker) -> None:
        super().__init__()
        lookup, dim = ranker.lookup, ranker.architecture.dim
        self.item, self.category = ranker.item_column, ranker.category_column
        self.unknown_rate, self.decay = ranker.architecture.unknown_rate, ranker.architecture.decay
        for name, table in (("codes", lookup.codes), ("repeats", lookup.repeats), ("clusters", ranker.image.codes)):
            self.register_buffer(name, torch.from_numpy(table.numpy()).long())
        self.users = nn.Embedding(ranker.user_codes.size, dim)
        self.tables = nn.ModuleList(nn.Embedding(table.input_dim, dim) for table in ranker.embeddings)
        feature = ranker.image.features[0]
        self.of_cluster = nn.Embedding(feature.tables[0].input_dim, dim)
        # There is one level, so its rows can be made unit vectors once.
        self.register_buffer("codebook", normalize(torch.from_numpy(feature.codebook.numpy()), dim=-1))
        self.usual = feature.usual.numpy().tolist()
        self.register_buffer("gate", torch.tensor(ranker.image.gate.values()))
        width, hidden = dim * (len(self.tables) + 1), ranker.attention.of_candidate.units
        self.of_candidate = nn.Linear(width, hidden)
        self.of_item, self.of_product = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.weigh = nn.Linear(hidden, 1)
        first = ranker.mlp.layers[0].kernel.shape[0]
        self.mlp = nn.Sequential(nn.Linear(first, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, user, row, history):
        """(Log odds, squared norm of the embeddings used)."""
        mask = history < len(self.codes) - 1
        codes, history_codes = self.codes[row], self.codes[history]
        length = mask.sum(1, keepdim=True).float()

        def share(same):
            return (same & mask[..., None]).sum(1) / length.clamp(min=1)

        def same(table):
            return (table[row][:, None] == table[history]) & (table[row][:, None] > 0)

        itself = (row[:, None] == history)[..., None]
        repeated = share(torch.cat([itself, same(self.repeats)], 2))
        columns = same(self.codes)
        columns = share(torch.cat([columns[..., : self.item], columns[..., self.item + 1 :]], 2))
        both = torch.cat([repeated, columns], 1)
        numbers = [(repeated > 0).float(), both, both.sqrt(), torch.log1p(length), length.clamp(max=1)]
        opened = self.gate[codes[:, self.category]][:, None]
        in_cluster = share(same(self.clusters))
        if self.training:
            opened = (torch.rand(len(user), 1) >= self.unknown_rate).float()
            user = user * (torch.rand(len(user)) >= self.unknown_rate)
            keep = torch.ones_like(codes)
            keep[:, self.item] = torch.rand(len(user)) >= self.unknown_rate
            codes = codes * keep
        candidate = torch.cat([table(codes[:, n]) for n, table in enumerate(self.tables)], 1)
        cluster, clusters = self.clusters[row, 0], self.clusters[history][..., 0]
        visual, past_visual = self.of_cluster(cluster), self.of_cluster(clusters)
        comparable = mask & (clusters > 0) & (cluster > 0)[:, None]
        cosine = (self.codebook[cluster][:, None] * self.codebook[clusters]).sum(2)
        cosine = (cosine - self.usual[0]) / self.usual[1]
        largest = cosine.masked_fill(~comparable, -torch.inf).amax(1, keepdim=True)
        largest = torch.where(comparable.any(1, keepdim=True), largest, 0.0)
        mean = (cosine * comparable).sum(1, keepdim=True) / comparable.sum(1, keepdim=True).clamp(min=1)
        candidate = torch.cat([candidate, visual * opened], 1)
        past = torch.cat([table(history_codes[..., n]) for n, table in enumerate(self.tables)], 2)
        past = torch.cat([past, past_visual * opened[:, None]], 2)
        pairs = self.of_item(past) + self.of_product(candidate[:, None] * past) + self.of_candidate(candidate)[:, None]
        logits = self.weigh(torch.relu(pairs))[..., 0].masked_fill(~mask, -1e9)
        wanted = ((logits.softmax(1) * mask)[..., None] * past).sum(1)
        who = self.users(user)
        seen = torch.cat([in_cluster, in_cluster.sqrt(), largest, mean], 1) * opened
        joined = torch.cat([who, candidate, wanted, candidate * wanted, *numbers, seen], 1)
        return self.mlp(joined)[:, 0], who.square().sum() + candidate.square().sum()

    def take(self, ranker: Ranker) -> None:
        """Copies the weights of ours."""

        def copy(parameter, value, turn=False):
            parameter.data.copy_(torch.from_numpy(value.numpy().T if turn else value.numpy()))

        tables = [self.users, *self.tables, self.of_cluster]
        theirs = [ranker.user_embedding, *ranker.embeddings, ranker.image.features[0].tables[0]]
        for mine, table in zip(tables, theirs, strict=True):
            copy(mine.weight, table.embeddings)
        self.gate.copy_(torch.from_numpy(ranker.image.gate.values()))
        attention = ranker.attention
        dense = [attention.of_candidate, attention.of_item, attention.of_product, attention.logit]
        linear = [self.of_candidate, self.of_item, self.of_product, self.weigh, *self.mlp[::2]]
        for mine, layer in zip(linear, [*dense, *ranker.mlp.layers, ranker.logit], strict=True):
            copy(mine.weight, layer.kernel, turn=True)
            if mine.bias is not None:
                copy(mine.bias, layer.bias)


def arrays_of(ranker: Ranker, ingest: Path, batches: int) -> tuple[torch.Tensor, ...]:
    """The first train impressions, ids looked up: `NAMES`, each [N] or [N, H] int64."""
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in NAMES}
    for batch in impression_batches(ingest, "train", history_length=HISTORY, batch_size=8192, seed=0).take(batches):
        arrays["user"].append(ranker.user_codes(batch["user_id"]).numpy())
        arrays["row"].append(ranker.lookup(batch["item_id"]).numpy())
        arrays["history"].append(ranker.lookup(batch["history_item_ids"]).numpy())
        arrays["clicked"].append(batch["clicked"].numpy())
    return tuple(torch.from_numpy(np.concatenate(arrays[name])).long() for name in NAMES)


def train_step(model: TorchRanker, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]) -> None:
    """One step of training on a batch of `NAMES`."""
    user, row, history, clicked = batch
    logits, norm = model(user, row, history)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, clicked.float()) + model.decay * norm / len(user)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
