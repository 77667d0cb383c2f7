"""The ranker of `courier_tf.ranking.model` with visual features, in plain PyTorch, fed with codes.

Histories are padded, gradients are dense, and the optimiser is `torch.optim.Adam`. Its input is arrays in memory, with
all ids looked up beforehand. Ours reads TFRecords and strings.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tensorflow import keras
from torch import nn
from torch.nn.functional import normalize

from courier_tf.ranking.data import impression_batches
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.visual_features.interest import RECENCY
from tests.benchmarks.ranking.ours import HISTORY

NAMES = ("user", "row", "history", "clicked")


class Seen(NamedTuple):
    """What visual features see: clusters [B] and [B, H], embeddings [B, D] and [B, H, D], mask [B, H]."""

    cluster: torch.Tensor
    clusters: torch.Tensor
    embedding: torch.Tensor
    embeddings: torch.Tensor
    mask: torch.Tensor


class Signals(NamedTuple):
    """What a visual feature gives: [B, M], and representations [B, P], [B, H, P], and attention logits [B, H]."""

    statistics: torch.Tensor
    candidate: torch.Tensor
    history: torch.Tensor
    attention: torch.Tensor | float


def _largest_and_mean(cosine: torch.Tensor, comparable: torch.Tensor, usual: list[float]) -> list[torch.Tensor]:
    cosine = (cosine - usual[0]) / usual[1]
    largest = cosine.masked_fill(~comparable, -torch.inf).amax(1, keepdim=True)
    largest = torch.where(comparable.any(1, keepdim=True), largest, 0.0)
    mean = (cosine * comparable).sum(1, keepdim=True) / comparable.sum(1, keepdim=True).clamp(min=1)
    return [largest, mean]


def _statistics(seen: Seen, statistics: torch.Tensor, attention: torch.Tensor | float = 0.0) -> Signals:
    return Signals(statistics, seen.embedding[:, :0], seen.embeddings[..., :0], attention)


def _compare(seen: Seen) -> tuple[torch.Tensor, torch.Tensor]:
    comparable = seen.mask & (seen.embeddings != 0).any(2) & (seen.embedding != 0).any(1)[:, None]
    return torch.bmm(seen.embeddings, seen.embedding[..., None])[..., 0], comparable


class ClusterId(nn.Module):
    def __init__(self, feature: keras.layers.Layer, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(feature.tables[0].input_dim, dim)
        # There is one level, so its rows can be made unit vectors once.
        self.register_buffer("codebook", normalize(torch.from_numpy(feature.codebook.numpy()), dim=-1))
        self.usual = feature.usual.numpy().tolist()

    def forward(self, seen: Seen) -> Signals:
        same = (seen.clusters == seen.cluster[:, None]) & (seen.clusters > 0) & seen.mask
        share = same.sum(1, keepdim=True) / seen.mask.sum(1, keepdim=True).clamp(min=1)
        comparable = seen.mask & (seen.clusters > 0) & (seen.cluster > 0)[:, None]
        cosine = (self.codebook[seen.cluster][:, None] * self.codebook[seen.clusters]).sum(2)
        statistics = torch.cat([share, share.sqrt(), *_largest_and_mean(cosine, comparable, self.usual)], 1)
        return Signals(statistics, self.table(seen.cluster), self.table(seen.clusters), 0.0)


class SimScore(nn.Module):
    def __init__(self, feature: keras.layers.Layer, dim: int) -> None:
        super().__init__()
        self.usual = feature.usual.numpy().tolist()

    def forward(self, seen: Seen) -> Signals:
        cosine, comparable = _compare(seen)
        alike = _largest_and_mean(cosine, comparable, self.usual)
        return _statistics(seen, torch.cat([*alike, comparable.any(1, keepdim=True).float()], 1))


class SimTier(nn.Module):
    def __init__(self, feature: keras.layers.Layer, dim: int) -> None:
        super().__init__()
        self.register_buffer("borders", torch.from_numpy(feature.borders.numpy()))

    def forward(self, seen: Seen) -> Signals:
        cosine, comparable = _compare(seen)
        tier = torch.bucketize(cosine, self.borders, right=True)
        counts = torch.zeros(len(tier), len(self.borders) + 1)
        return _statistics(seen, counts.scatter_add(1, tier, comparable.float()).log1p())


class SimilarityAttention(nn.Module):
    def __init__(self, feature: keras.layers.Layer, dim: int) -> None:
        super().__init__()
        self.register_buffer("borders", torch.from_numpy(feature.borders.numpy()))
        self.steps = nn.Parameter(torch.zeros(len(self.borders)))

    def forward(self, seen: Seen) -> Signals:
        cosine, comparable = _compare(seen)
        of_tier = torch.cat([torch.zeros(1), self.steps.cumsum(0)])
        added = of_tier[torch.bucketize(cosine, self.borders, right=True)]
        return _statistics(seen, seen.embedding[:, :0], torch.where(comparable, added, 0.0))


class Interest(nn.Module):
    def __init__(self, feature: keras.layers.Layer, dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(feature.table.input_dim, dim)
        self.register_buffer("centroids", torch.from_numpy(feature.centroids.numpy()))

    def forward(self, seen: Seen) -> Signals:
        known = seen.mask & (seen.clusters > 0)
        weight = known * (1 + RECENCY * torch.arange(known.shape[1]).sqrt())
        total = (self.centroids[(seen.clusters - 1).clamp(min=0)] * weight[..., None]).sum(1)
        code = torch.where(known.any(1), (total @ self.centroids.T).argmax(1) + 1, 0)
        return _statistics(seen, self.table(code))


MADE = {
    "cluster_id": ClusterId,
    "simscore": SimScore,
    "simtier": SimTier,
    "simattention": SimilarityAttention,
    "interest": Interest,
}


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
        self.register_buffer("embeddings", torch.from_numpy(ranker.image.embeddings.numpy()))
        self.features = nn.ModuleList(MADE[feature.name](feature, dim) for feature in ranker.image.features)
        self.register_buffer("gate", torch.tensor(ranker.image.gate.values()))
        width, hidden = ranker.attention.of_item.kernel.shape[0], ranker.attention.of_candidate.units
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
        if self.training:
            opened = (torch.rand(len(user), 1) >= self.unknown_rate).float()
            user = user * (torch.rand(len(user)) >= self.unknown_rate)
            keep = torch.ones_like(codes)
            keep[:, self.item] = torch.rand(len(user)) >= self.unknown_rate
            codes = codes * keep
        candidate = torch.cat([table(codes[:, n]) for n, table in enumerate(self.tables)], 1)
        seen = Seen(
            self.clusters[row, 0], self.clusters[history][..., 0], self.embeddings[row], self.embeddings[history], mask
        )
        signals = [feature(seen) for feature in self.features]
        candidate = torch.cat([candidate, *(part.candidate * opened for part in signals)], 1)
        past = torch.cat([table(history_codes[..., n]) for n, table in enumerate(self.tables)], 2)
        past = torch.cat([past, *(part.history * opened[:, None] for part in signals)], 2)
        pairs = self.of_item(past) + self.of_product(candidate[:, None] * past) + self.of_candidate(candidate)[:, None]
        logits = self.weigh(torch.relu(pairs))[..., 0] + sum(part.attention for part in signals) * opened
        logits = logits.masked_fill(~mask, -1e9)
        wanted = ((logits.softmax(1) * mask)[..., None] * past).sum(1)
        who = self.users(user)
        of_image = [part.statistics * opened for part in signals]
        joined = torch.cat([who, candidate, wanted, candidate * wanted, *numbers, *of_image], 1)
        return self.mlp(joined)[:, 0], who.square().sum() + candidate.square().sum()

    def take(self, ranker: Ranker) -> None:
        """Copies the weights of ours."""

        def copy(parameter, value, turn=False):
            parameter.data.copy_(torch.from_numpy(value.numpy().T if turn else value.numpy()))

        tables, theirs = [self.users, *self.tables], [ranker.user_embedding, *ranker.embeddings]
        for mine, feature in zip(self.features, ranker.image.features, strict=True):
            if feature.name == "simattention":
                copy(mine.steps, feature.steps)
            if feature.name in ("cluster_id", "interest"):
                tables.append(mine.table)
                theirs.append(feature.tables[0] if feature.name == "cluster_id" else feature.table)
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
