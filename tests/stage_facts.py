"""Facts of stages that a test writes itself; a test names only those that matter to it."""

import dataclasses
from typing import Any, TypeVar

from courier_tf.workdir.facts import (
    ClusterFacts,
    EmbedFacts,
    EncoderFacts,
    Facts,
    FeatureFacts,
    IngestFacts,
    RankFacts,
    VersionFacts,
)

EXAMPLES: tuple[Facts, ...] = (
    IngestFacts(
        log_kind="impressions",
        all_columns=("category",),
        item_columns=("category",),
        repeat_columns=(),
        valid_from="1970-01-01",
        test_from="1970-01-02",
        valid_from_seconds=1000,
        test_from_seconds=87_400,
        image_size=16,
        inline_photos=False,
        page_view_size=5,
        history_kept=20,
        history_ties="strict",
        shards=1,
        negatives=None,
        counts={},
    ),
    FeatureFacts(source="pixels", parts=(768,), decided_by="abc", views=0, image_size=16),
    EncoderFacts(encoder="abc", embedding_dim=2, image_size=16, valid_from_seconds=1000, held_out={"best": 0.5}),
    EmbedFacts(encoder="abc", image_size=16, valid_from_seconds=1000),
    ClusterFacts(
        clusters=3,
        levels=1,
        encoder="abc",
        embedding_dim=2,
        image_size=16,
        valid_from_seconds=1000,
        items_without_photo=0,
        quality={},
    ),
    RankFacts(
        modes=("none", "cluster_id"),
        starts=1,
        history_length=20,
        encoder="abc",
        valid_from_seconds=1000,
        test_from_seconds=87_400,
        best_start={"none": 0, "cluster_id": 0},
        metrics={},
        gain_over_none={},
        gauc_gain_over_none={},
        popularity={"auc": 0.5},
        category_gates={},
        learning_rates={},
    ),
    VersionFacts(version=1, warm_up_requests=1),
)


F = TypeVar("F", bound=Facts)


def example(kind: type[F], **changes: Any) -> F:
    """The example of a kind of facts, with some of them changed."""
    return dataclasses.replace(next(facts for facts in EXAMPLES if isinstance(facts, kind)), **changes)
