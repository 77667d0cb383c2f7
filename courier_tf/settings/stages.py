"""The settings of each stage. Field names are unique over all stages: each is an option."""

import dataclasses
import datetime
import re
from typing import Literal

from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.settings.checked import Checked, SettingsError
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE, PERMUTED, is_control, visual_feature_names
from courier_tf.settings.raw import RawSettings

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
AUTO_FEATURES = "auto"  # As `features`: sensible candidates of what is installed.


@dataclasses.dataclass(frozen=True)
class IngestSettings(RawSettings):
    """Raw logs and photos to TFRecords."""

    valid_from: str | None = None
    """First day of the valid span, YYYY-MM-DD (UTC). Default: the day that leaves closest to 80 % of the events before
    it."""
    test_from: str | None = None
    """First day of the test span, YYYY-MM-DD (UTC). Default: the day that leaves closest to 90 % of the events before
    it."""
    history_ties: Literal["strict", "log_order"] = "strict"
    """Which clicks with equal timestamps a history holds. strict: those before the page view. log_order: in
    pre-training rows also those that stand before the click in the log, with the same timestamp; impressions are always
    strict."""
    late_days: Literal["replay", "refuse"] = "replay"
    """What happens where rows of a known day are new, changed or gone, as those of the last known day may be. replay:
    that day and all after it are made anew. refuse: the run ends with a message."""
    negatives: Literal["popularity", "uniform"] = "popularity"
    """How negatives are drawn in a positives-only log. popularity: from the events of the same day, and of the days
    before where these are fewer than `negatives_pool_events`. uniform: from all items that exist by then."""
    negatives_per_positive: int = 4
    """Negatives drawn for each positive of a positives-only log."""
    negatives_pool_events: int = 1000
    """Least number of events in the pool of popularity negatives. A smaller pool reaches less far back in a thin
    log."""
    negatives_seed: int = 17
    """Seed of the negatives. It is apart from the seed of the run, so that every run sees the same negatives."""
    image_size: int = 64
    """Side of the stored photos, in pixels."""
    inline_photos: bool = False
    """Store the photos inside the pre-training rows too. The objective then reads them in the order of the rows and
    keeps no photos in memory; supervised pre-training and the held-out score still do."""
    max_inline_gigabytes: float = 100.0
    """Fail where the photos inside the pre-training rows would take more. Each row has one for each item of its history
    and of its page view."""
    page_view_size: int = 5
    """Items of a pre-training row (P of the paper)."""
    history_kept: int = 20
    """Most recent clicked items kept in a history."""
    shards: int = 4
    """Least number of TFRecord files per split."""
    shard_megabytes: int = 256
    """Most megabytes of such a file, about: a larger split gets more files. A worker sorts a file in memory."""
    item_columns: tuple[str, ...] = ()
    """Catalogue columns for supervised pre-training and rankers. Default: category and each column with 2 to 1000
    values."""
    repeat_columns: tuple[str, ...] = ()
    """Catalogue columns in which a shared value makes a repeat. A candidate that shares such a value with a history
    item counts as a repeat of it, as the item itself does. The slice new_to_user leaves repeats out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("valid_from", "test_from"):
            date = getattr(self, name)
            if date is not None and not _is_date(date):
                raise SettingsError(f"{name}={printable(date)} is not a date YYYY-MM-DD")
        if self.valid_from and self.test_from and self.valid_from >= self.test_from:
            raise SettingsError(f"valid_from={self.valid_from} must be before test_from={self.test_from}")


def _is_date(text: str) -> bool:
    """Whether a text is a day written YYYY-MM-DD; Python takes weeks and dates without hyphens, too."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


@dataclasses.dataclass(frozen=True)
class PretrainSettings(Checked):
    """TFRecords to an image encoder."""

    objective: str = "courier"
    """What the encoder learns after supervised pre-training: courier, simclr, simsiam, simcse, mil_nce, clip, or an
    objective of your own. base stops there, supervised goes on with the catalogue's columns."""
    init: str | None = None
    """Start from weights of the backbone in this file, not from supervised pre-training. Swin: torchvision's layout or
    the official one, .pth or .safetensors. EfficientNet-lite: that of EfficientNet-PyTorch. Any other than Swin: a
    .weights.h5 that Keras saved of KerasCV's network. Nothing in a file is run."""
    backbone: str = "nano"
    """Network that processes the photos. nano, tiny, small, base: our Swin. Others are networks of KerasCV by the names
    of their presets, for instance efficientnetlite_b0, efficientnetv2_b0, resnet50_v2. A name that ends in _imagenet
    comes with weights, and supervised pre-training is left out. efficientnetlite_b0_imagenet needs the extra
    `pretrained`, others the network. @SIDE after a name (efficientnetlite_b0@128) resizes photos to that side."""
    trainable: str = "all"
    """Part of the encoder that the objective trains. all: every layer. last_N: the last N stages of the backbone,
    and what comes after it. head: what comes after the backbone, on features that are computed once."""
    features: tuple[str, ...] = (AUTO_FEATURES,)
    """Candidates of features for a head; the one with the best held-out score on valid is kept. Sources, joined by +:
    pixels, colour, a backbone with weights such as efficientnetlite_b0_imagenet, or the folder of a SavedModel. auto:
    sensible candidates of what is installed."""
    head: Literal["linear", "mlp"] = "linear"
    """Layers of a head that learns on features. mlp: a hidden layer beside the linear one."""
    backbone_learning_rate_factor: float | None = None
    """Learning rate of the backbone, as a part of that of the linear layer after it. Default: 0.1 where the backbone
    starts from weights of others, which new steps can undo fast, alone or under a trained head; 1 after supervised
    pre-training."""
    head_first_steps: int | None = None
    """Steps of the objective in which the linear layer learns alone. Default: a tenth of them where the backbone starts
    from weights of others, as a random layer would send them random gradients; 0 after supervised pre-training, and
    where a trained head comes with the previous encoder."""
    embedding_dim: int = 256
    """Width of the image embedding."""
    reconstruction: Literal["multi_head", "weighted_sum", "self_attention", "mean"] = "weighted_sum"
    """How an item is reconstructed from the history. self_attention and mean are ablations that do not look at the
    item."""
    attention_scale: float = 10.0
    """Where the learned scale of the cosines in the softmax over the history starts, for weighted_sum and
    self_attention. The lower it is, the more items of the history count at first."""
    contrast_with: Literal["all_page_views", "clicked_only", "popularity_corrected", "other_users", "other_times"] = (
        "all_page_views"
    )
    """Page-view slots that are negatives of a click."""
    copied_targets: bool = False
    """Keep clicked items that are in their own history. Copying solves the task for them."""
    accidental_negatives: bool = False
    """Let other slots with the clicked item be its negatives."""
    courier_losses: tuple[Literal["contrastive", "click", "history"], ...] = ("contrastive",)
    """Losses that courier adds up. contrastive is the paper's. click and history are from the authors' code: a head
    that predicts the click, and a contrastive loss of the newest history item."""
    projection_head: bool = False
    """Put an MLP between the embeddings and the losses (ablation). It is thrown away after training."""
    pretrain_where: str | None = None
    """COLUMN=VALUE: learn only from clicks on items with this value. Page views without such a click are left out.
    Supervised pre-training sees all items."""
    history_length: int = 5
    """Most recent history items used (H of the paper)."""
    temperature: float | None = None
    """Temperature of the softmax (tau of the paper). Default: the objective's own, 0.05 for courier."""
    drop_path: float = 0.05
    """Stochastic depth of the last block. Earlier blocks have less, linearly. With a head on features: the share of the
    features that training hides."""
    precision: Precision = "float32"
    """Keras mixed-precision policy."""
    teacher: str | None = None
    """Features that supervised pre-training imitates, not the catalogue's columns. A feature source, or several joined
    by +, as in `features`, for instance efficientnetlite_b0_imagenet@128."""
    supervised_steps: int = 250
    """Steps of supervised pre-training."""
    supervised_batch_size: int = 256
    """Images per step of supervised pre-training, over all replicas."""
    supervised_learning_rate: float = 2e-3
    """Peak learning rate of supervised pre-training."""
    pretrain_steps: int = 150
    """Steps of the objective."""
    pretrain_passes: int = 0
    """Most passes of the objective over the pre-training rows: fewer steps where the log is small, which a head would
    learn by heart. 0: as many as the steps make."""
    pretrain_batch_rows: int = 128
    """Page views per step, over all replicas."""
    pretrain_learning_rate: float = 2e-4
    """Peak learning rate of the objective."""
    weight_decay: float = 1e-6
    """L2 added to the gradient, as in the paper's Adam."""
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    encode_chunk: int = 0
    """Photos embedded at a time, by GradCache; 0: all at once. Memory then does not grow with the batch."""
    recompute: bool = False
    """Save memory by computing blocks again on the way back. Training takes more time."""
    replicas: int = 0
    """GPUs for pre-training; 0: all (the CPU if there is none)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.courier_losses or len(set(self.courier_losses)) < len(self.courier_losses):
            raise SettingsError(f"courier_losses must name each loss once, but is {self.courier_losses}")
        if not re.fullmatch(r"all|head|last_[1-9]\d?", self.trainable):
            raise SettingsError(
                f"trainable must be all, head or last_N (last_1, last_2, ...), but is {self.trainable!r}"
            )
        if not self.features:
            raise SettingsError("features must name a candidate, or auto")
        if self.pretrain_where and not self.pretrain_where.partition("=")[2]:
            raise SettingsError(f"pretrain_where must be COLUMN=VALUE, but is {self.pretrain_where!r}")
        if self.reconstruction == "multi_head" and self.embedding_dim % schema.ATTENTION_HEADS:
            heads = schema.ATTENTION_HEADS
            raise SettingsError(f"embedding_dim={self.embedding_dim} is no multiple of the {heads} heads")


#: The pre-training settings that supervised pre-training depends on.
SUPERVISED_SETTINGS = (
    "backbone", "embedding_dim", "drop_path", "precision", "supervised_steps", "supervised_batch_size",
    "supervised_learning_rate", "checkpoint_every", "replicas", "teacher",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class EmbedSettings(Checked):
    """Items to embeddings."""

    embed_batch_size: int = 128
    """Photos per inference batch."""


@dataclasses.dataclass(frozen=True)
class ClusterSettings(Checked):
    """Embeddings to cluster IDs."""

    clusters: int = 32
    """Number of clusters. More clusters see finer (colour and cut rather than kind), but each then has fewer clicks to
    learn from, and IDs stay less well after a retrain. Try numbers between the square root of the number of items and a
    twentieth of it; choose by the gain on valid."""
    algorithm: Literal["kmeans", "online", "residual", "incremental", "agglomerative", "hdbscan"] = "kmeans"
    """How clusters are learned. kmeans: k-means|| seeding and Lloyd's steps on a sample of 256 items per cluster.
    online: sequential k-means, one pass over all items (the paper makes one pass, too, by another algorithm).
    residual: kmeans, again on what is left over, `levels` times.
    incremental: nothing is learned; items keep the IDs of the previous clusters, and new ones are assigned by their
    codebook. To compare with, on at most 20,000 items: agglomerative, and hdbscan, which finds the number of clusters
    by itself."""
    levels: int = 3
    """residual: codes of an item, coarse to fine. The cluster ID is the first."""
    cluster_steps: int = 25
    """kmeans, residual: most steps. Learning ends earlier where next to nothing moves any more."""
    cluster_batch_size: int = 4096
    """online: embeddings between two moves of the centroids."""
    search: Literal["exact", "scann"] = "exact"
    """How items find their centroids. scann is faster with thousands of clusters, and misses less than one in 100."""
    stay: float = 0.3
    """With previous clusters: how much nearer a cluster must be to move an item. It is a share of the squared distance.
    0: as soon as one is nearer; 1: never. The more items stay, the less tight the clusters are."""


@dataclasses.dataclass(frozen=True)
class RankSettings(Checked):
    """Impressions and cluster IDs to a click probability."""

    rank_modes: tuple[str, ...] = (NO_VISUAL_FEATURE, "cluster_id", f"cluster_id{PERMUTED}")
    """Visual features to compare, each in its own ranker. none; cluster_id (codes of all levels, with what their
    centroids say); plain_cluster_id (the bare ID, as in the paper); prefix_id (an embedding per prefix of the codes);
    vector (the embedding); simscore (its largest and mean cosine with the history); simtier (these cosines counted into
    tiers); simattention (they weigh the history); interest (the cluster of the history); or several joined by +. With
    _permuted at its end a mode is a control: it gets the visual features of other items, and the verdict compares its
    mode with it. The last mode that is no control is exported."""
    rank_columns: tuple[str, ...] = ()
    """Catalogue columns that rankers use beside the category. Default: those of ingest, without the next ones."""
    rank_number_columns: tuple[str, ...] = ()
    """Catalogue columns that hold numbers, such as price or rating. A ranker sees the rank of a number among those of
    the train span, whether there is one, and its distance from the history."""
    rank_list_columns: tuple[str, ...] = ()
    """Catalogue columns that hold several values for an item, such as tags: a JSON array, or texts with the separator
    below between them. A ranker sees the mean of the values' embeddings, and how many of the values the history has."""
    rank_list_separator: str = "|"
    """What stands between the values of such a column."""
    rank_context_columns: tuple[str, ...] = ()
    """Context columns that rankers use as categories. Default: those of ingest, without the next ones."""
    rank_context_number_columns: tuple[str, ...] = ()
    """Context columns that hold numbers. A ranker sees the rank of a number among those of the train span, and whether
    there is one."""
    rank_user_columns: tuple[str, ...] = ()
    """Columns of users that rankers use as categories. Default: each with 2 to 1000 values that users share, without
    the next ones."""
    rank_user_number_columns: tuple[str, ...] = ()
    """Columns of users that hold numbers, such as an age. A ranker sees them as it sees context columns of numbers."""
    rank_category_gate: bool = True
    """Let a category gate switch visual features off. It is open in the categories in which they lower the log loss on
    valid by more than chance. Training hides them on some rows, so that the ranker knows how to do without them."""
    rank_cross_layers: int = 0
    """Layers of DCN-v2 before the MLP."""
    rank_hash_buckets: int = 0
    """Rows to hash the ids of users, and of items, into; 0: no hashing."""
    rank_hash_above: int = 0
    """With `rank_hash_buckets`: the users are hashed where more than so many would have an embedding of their own, and
    the items likewise. 0: always."""
    rank_min_item_impressions: int = 1
    """Least number of impressions with which an item has an embedding of its own. Items that the train span shows less
    often are known by their columns and visual features (in a positives-only log: items with fewer positives). Raise it
    where negatives are drawn by popularity: an item's own clicks then tell little beyond chance. Sampled negatives do
    not count: with `negatives=uniform` all training rows of an item that nobody has taken are negative, and new items
    seem so too."""
    rank_min_user_page_views: int = 2
    """Least number of page views with which a user has an embedding of their own. Other users share that of the unknown
    user: one page view helps to predict itself and no other. Users whose ids are hashed are not counted."""
    rank_slice_columns: tuple[str, ...] = (schema.CATEGORY,)
    """Catalogue columns by whose frequent values metrics are sliced."""
    rank_history_length: int = 20
    """Most recent history items that rankers use."""
    rank_nearest_items: int = 0
    """Of these history items, use so many for each candidate: those most similar to it in modes with embeddings, the
    most recent ones in others. 0: all. It bounds the cost of a long history."""
    rank_dim: int = 16
    """Width of each ID embedding."""
    rank_epochs: int = 3
    """Most passes over the train impressions. The best on valid is kept."""
    rank_redraw_ids: bool = False
    """Draw the embeddings of users and items anew before each pass but the first (MEDA). Further passes then train what
    comes after them, and do not fit single ids."""
    rank_listwise_weight: float = 0.0
    """Share of the loss that compares the impressions of a page view with each other (JRC). The rest is cross entropy,
    which keeps probabilities calibrated. Batches then hold whole page views."""
    rank_batch_size: int = 1024
    """Impressions per step, over all replicas."""
    rank_learning_rates: tuple[float, ...] = (1e-3,)
    """Learning rates of Adam to try. Each ranker is trained with each, and the best on valid is kept, so that all
    visual features are tuned alike."""
    rank_starts: int = 3
    """Rankers per visual feature, from different random weights. Metrics are their means, and the best on valid is
    exported. One alone has no intervals: it tells nothing of what another would have given. In an experiment with
    several seeds one is enough, as seeds stand in for starts."""
    rank_checkpoint_every: int = 1000
    """Steps between checkpoints. There is one more after each pass."""
    rank_precision: Precision = "float32"
    """Keras mixed-precision policy. On a CPU TensorFlow adds up the gradients of biases in it too: take float32
    there."""
    rank_replicas: int = 0
    """GPUs for rankers; 0: all (the CPU if there is none)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for mode in self.rank_modes:
            visual_feature_names(mode)
        if all(is_control(mode) for mode in self.rank_modes):
            raise SettingsError(f"rank_modes must name a mode that can be served, but is {self.rank_modes}")
        if len(set(self.rank_modes)) < len(self.rank_modes):
            raise SettingsError(f"rank_modes names a mode twice: {self.rank_modes}")
        if not self.rank_list_separator:
            raise SettingsError("rank_list_separator is empty, and must be what stands between two values")
        if self.rank_nearest_items >= self.rank_history_length:
            raise SettingsError(
                f"rank_nearest_items={self.rank_nearest_items} chooses nothing: rankers use no more than "
                f"rank_history_length={self.rank_history_length} items of a history"
            )
        if not self.rank_learning_rates or len(set(self.rank_learning_rates)) < len(self.rank_learning_rates):
            raise SettingsError(f"rank_learning_rates must name each rate once, but is {self.rank_learning_rates}")


@dataclasses.dataclass(frozen=True)
class PromotionSettings(Checked):
    """What a version must be to be promoted, and how much worse than the stable one it may be on the valid span."""

    auc_tolerance: float = 0.002
    """Most that the AUC on valid may fall."""
    calibration_tolerance: float = 0.05
    """Most that |log(mean probability / share of clicks)| may grow."""
    accept: tuple[Literal["auc", "calibration", "collapse"], ...] = ()
    """Faults to promote in spite of. auc: the ranker is not shown to be better than chance on valid. calibration: it
    predicts 1.5 times the clicks of valid, or less than that part. collapse: the encoder gives all photos nearly the
    same embedding. What is accepted is recorded with the release, and in the model card."""
