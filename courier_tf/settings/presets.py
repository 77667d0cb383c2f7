"""The presets: which settings go together, for tests, a laptop, GPUs."""

import dataclasses

from courier_tf.settings import (
    ClusterSettings,
    IngestSettings,
    PretrainSettings,
    RankSettings,
    Settings,
)

#: The published sizes, for GPUs.
_PAPER = Settings(
    ingest=IngestSettings(image_size=224, shards=64),
    pretrain=PretrainSettings(
        backbone="tiny",
        reconstruction="multi_head",
        drop_path=0.2,
        supervised_steps=20_000,
        supervised_batch_size=1024,
        supervised_learning_rate=1e-3,
        pretrain_steps=100_000,
        pretrain_batch_rows=3072,
        pretrain_learning_rate=1e-4,
        checkpoint_every=1000,
        # 3072 rows are up to 30,720 photos: of all at once a GPU cannot keep what the way back needs.
        encode_chunk=128,
        precision="mixed_float16",
    ),
    cluster=ClusterSettings(clusters=20_000),
    rank=RankSettings(rank_history_length=20, rank_dim=32, rank_batch_size=8192),
)

#: tiny: a minute, for tests and notebooks. demo: minutes on two cores. swin: as demo, with a small Swin that learns
#: from the photos themselves. paper: the published sizes, for GPUs. authors: as paper, with the three losses of the
#: authors' code.
PRESETS: dict[str, Settings] = {
    "tiny": Settings(
        ingest=IngestSettings(image_size=32, shards=2),
        pretrain=PretrainSettings(
            embedding_dim=32,
            supervised_steps=20,
            supervised_batch_size=64,
            pretrain_steps=10,
            pretrain_batch_rows=32,
            checkpoint_every=5,
        ),
        cluster=ClusterSettings(clusters=16),
        rank=RankSettings(rank_epochs=1, rank_batch_size=256, rank_dim=8, rank_starts=1),
    ),
    # Heads on features of frozen networks have more gain for a hundredth of the time, on real photos and on drawings.
    # At the paper's temperature, 0.05, the clicks of a small shop tell too little for so confident a softmax
    # (docs/log/encoder-recipe.md).
    "demo": Settings(
        ingest=IngestSettings(image_size=128),
        pretrain=PretrainSettings(
            trainable="head",
            temperature=0.2,
            attention_scale=1.0,
            drop_path=0.0,
            pretrain_steps=400,
            pretrain_passes=4,
            pretrain_batch_rows=512,
            pretrain_learning_rate=3e-3,
            weight_decay=0.0,
            checkpoint_every=100,
        ),
    ),
    "swin": Settings(pretrain=PretrainSettings(temperature=0.2)),
    "paper": _PAPER,
    "authors": dataclasses.replace(
        _PAPER,
        pretrain=dataclasses.replace(_PAPER.pretrain, courier_losses=("contrastive", "click", "history")),
    ),
}
