"""The contract between stages: what each stage tells the stages after it. Written and read here alone.

Each stage has one frozen dataclass. `artefacts.write_aside` writes it into `artefact.json`, and `artefacts.read` gives
it back, with every type checked. All times are seconds since 1970, UTC.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Self, get_origin, get_type_hints


class FactsError(ValueError):
    """The facts of a stage lack a field, have one too many, or hold a value of another type."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a stage tells the stages after it. The subclasses say what that is."""

    def to_json(self) -> dict[str, Any]:
        """The fields as values that `json` can write.

        Raises:
            FactsError: a value has another type than its field, or JSON cannot hold it.
        """
        values = dataclasses.asdict(self)
        try:
            type(self).from_json(json.loads(json.dumps(values)))
        except TypeError as error:
            raise FactsError(f"{type(self).__name__}: {error}") from error
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Reads what `to_json` wrote.

        >>> VersionFacts.from_json({"version": 3, "warm_up_requests": "many"})
        Traceback (most recent call last):
        ...
        courier_tf.workdir.facts.FactsError: warm_up_requests='many': str is not an instance of int

        Raises:
            FactsError: a field is missing, unknown, or of another type; the message names it.
        """
        # Here, as its import takes longer than that of all else: a typing error is to be answered at once.
        from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

        if not isinstance(values, Mapping):
            raise FactsError(f"the facts must be a JSON object, but are {values!r}")
        hints = get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls)}
        missing = dataclasses.MISSING
        required = {n for n, field in fields.items() if missing is field.default and missing is field.default_factory}
        for what, names in (("lack", required - set(values)), ("have the unknown", set(values) - set(fields))):
            if names:
                raise FactsError(f"the facts {what} field {', '.join(sorted(names))}")
        read = {
            name: tuple(value) if get_origin(hints[name]) is tuple and isinstance(value, list) else value
            for name, value in values.items()
        }
        for name, value in read.items():
            try:
                check_type(value, hints[name], collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
            except TypeCheckError as error:
                raise FactsError(f"{name}={value!r}: {error}") from error
        return cls(**read)


@dataclasses.dataclass(frozen=True)
class IngestFacts(Facts):
    """What the records hold, and where the spans end."""

    log_kind: str
    """`impressions` (clicks and non-clicks) or `positives` (clicks or purchases alone)."""
    all_columns: tuple[str, ...]
    """Every item column of the catalogue."""
    item_columns: tuple[str, ...]
    """The columns that supervised pre-training and the rankers use."""
    repeat_columns: tuple[str, ...]
    """The columns in which a shared value makes a candidate a repeat of a history item."""
    valid_from: str
    """First day of the valid span, YYYY-MM-DD (UTC)."""
    test_from: str
    """First day of the test span, YYYY-MM-DD (UTC)."""
    valid_from_seconds: int
    """When the train span ends and the valid span begins, seconds (UTC)."""
    test_from_seconds: int
    """When the valid span ends and the test span begins, seconds (UTC)."""
    image_size: int
    """Side of the photos, in pixels."""
    inline_photos: bool
    """Whether page views hold their photos."""
    page_view_size: int
    """Most items of a page view record."""
    history_kept: int
    """Most items of a history."""
    history_ties: str
    """`strict`, or `log_order` where a history may hold clicks at the time of its page view."""
    shards: int
    """Least TFRecord files per split; large splits have more."""
    negatives: str | None
    """How negatives were sampled; None for a log of impressions."""
    counts: Mapping[str, int]
    """Numbers of records read, written and rejected, by name."""
    context_columns: tuple[str, ...] = ()
    """The columns of the events that impressions hold."""
    user_columns: tuple[str, ...] = ()
    """Every column of the table of users; none where there is no such table."""
    first_days: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Span -> its first day with events, YYYY-MM-DD (UTC)."""
    last_days: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Span -> its last day with events, YYYY-MM-DD (UTC)."""
    pool_days: int | None = None
    """Days that the pool of popularity negatives reaches back, in the median over the events; None without one."""
    log: str = ""
    """What the log tells, and how its page views were told apart, in words."""
    time_forms: tuple[str, ...] = ()
    """The forms of timestamps that were recognised, with unit and time zone."""
    notes: tuple[str, ...] = ()
    """What may be wrong in the raw folder, one sentence each."""
    photo_states: int = 0
    """A sum over the sizes and times of all photos that items name: as long as it stays, none has changed."""
    photo_contents: int = 0
    """The same over their contents."""
    photos_decoded: int | None = None
    """Photos whose files were decoded; None in the results of earlier versions."""
    photos_taken_over: int | None = None
    """Photos that an earlier ingest had decoded, and whose files are unchanged."""
    days_made: int | None = None
    """Days of the log that were made; None in the results of earlier versions."""
    days_taken_over: int | None = None
    """Days of the log that an earlier ingest had made."""
    raw: str = dataclasses.field(default="", compare=False)
    """The raw folder."""
    log_basis: str = ""
    """Fingerprint of all that decides what rows of the log become, beside settings that change no day."""
    log_contents: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)
    """File of the log, below the raw folder -> what tells its content."""


@dataclasses.dataclass(frozen=True)
class FeatureFacts(Facts):
    """The features of all photos by one source, which does not learn."""

    source: str
    """Name of the source."""
    parts: tuple[int, ...]
    """Widths of the parts of a vector that are standardised each for itself."""
    decided_by: str
    """Fingerprint of all that decides the vectors, beside the photos."""
    views: int
    """Number of further views of each photo, by fixed augmentations."""
    image_size: int
    """Side of the photos, in pixels."""
    photos_computed: int | None = None
    """Photos whose vectors were computed; None in the results of earlier versions."""
    photos_taken_over: int | None = None
    """Photos that are unchanged, with the vectors of an earlier result."""


@dataclasses.dataclass(frozen=True)
class EncoderFacts(Facts):
    """The encoder of supervised pre-training or of the objective."""

    encoder: str
    """Fingerprint of the weights and of the photos' size: all that embeddings depend on."""
    embedding_dim: int
    """Width of an embedding."""
    image_size: int
    """Side of the photos it takes, in pixels."""
    valid_from_seconds: int
    """When the span that it was trained on ends, seconds (UTC)."""
    held_out: Mapping[str, float | None]
    """Score on the valid span, by name of the figure; None where it is not defined."""
    held_out_before: Mapping[str, float | None] | None = None
    """Heads alone: the score before training, of the features as they are or of the previous head."""
    columns: Mapping[str, int] | None = None
    """Supervised pre-training alone: column -> number of its values."""
    teacher: str | None = None
    """Supervised pre-training alone: the feature sources that it imitated in place of columns, joined by `+`."""
    teacher_held_out: Mapping[str, float | None] | None = None
    """The score of the teacher's own features on the valid span, by name of the figure."""
    features: tuple[str, ...] = ()
    """The feature sources whose vectors the encoder takes; none for one that takes photos."""
    candidates: Mapping[str, Mapping[str, float | None]] | None = None
    """Candidate of `--features` -> its held-out score on the valid span, by name of the figure."""


@dataclasses.dataclass(frozen=True)
class EmbedFacts(Facts):
    """The embeddings of all items."""

    encoder: str
    """Fingerprint of the encoder that made them."""
    image_size: int
    """Side of the photos, in pixels."""
    valid_from_seconds: int
    """When the train span ends, seconds (UTC)."""
    photos_computed: int | None = None
    """Photos that were embedded; None in the results of earlier versions."""
    photos_taken_over: int | None = None
    """Photos that are unchanged, with the embeddings of an earlier result."""


@dataclasses.dataclass(frozen=True)
class ClusterFacts(Facts):
    """The codebook and the cluster IDs."""

    clusters: int
    """Centroids of each level."""
    levels: int
    """Codes of an item."""
    encoder: str
    """Fingerprint of the encoder whose embeddings were clustered."""
    embedding_dim: int
    """Width of a centroid."""
    image_size: int
    """Side of the photos, in pixels."""
    valid_from_seconds: int
    """When the train span ends, seconds (UTC)."""
    items_without_photo: int
    """Items that have no cluster."""
    quality: Mapping[str, float | None]
    """Figures of the clustering and of the embeddings by name, as in `courier_tf/clusters/quality.py`; None where one
    is not defined. `effective_rank`, `neighbours_cosine` and `pairs_cosine` tell a collapsed encoder."""
    items_in_previous: int | None = None
    """Items that had an ID in the previous clusters and have one now. None, as all below, without previous ones."""
    new_items: int | None = None
    """Items that have their first ID."""
    ids_kept: float | None = None
    """Share of `items_in_previous` with the same ID."""
    items_not_in_nearest: int | None = None
    """Items that stay in a cluster, or in a finer code, although another centroid is nearer. To their photos
    `image_embedder` answers the nearer one, `nearest_cluster_id` in the table; rankers know them by `cluster_id`."""
    adjusted_rand_index: float | None = None
    """Agreement with the previous clusters, whatever their numbers are."""


@dataclasses.dataclass(frozen=True)
class RankFacts(Facts):
    """The rankers of all rank modes, measured on the valid span."""

    modes: tuple[str, ...]
    """The rank modes, in the order of the settings."""
    starts: int
    """Rankers of each mode."""
    history_length: int
    """Most history items that the rankers look at."""
    encoder: str
    """Fingerprint of the encoder behind the cluster IDs."""
    valid_from_seconds: int
    """When the train span ends, seconds (UTC)."""
    test_from_seconds: int
    """When the valid span ends, on which the best rankers were chosen, seconds (UTC)."""
    best_start: Mapping[str, int]
    """Mode -> number of the best ranker, which is exported."""
    metrics: Mapping[str, Any]
    """Mode -> metrics on the valid span, means over the starts."""
    gain_over_none: Mapping[str, Any]
    """Mode -> slice -> gain in AUC over the mode `none`, with its interval."""
    gauc_gain_over_none: Mapping[str, Any]
    """The same in GAUC."""
    popularity: Mapping[str, Any]
    """What the popularity of an item alone tells."""
    category_gates: Mapping[str, Mapping[str, float]]
    """Mode -> category -> how far its gate is open, 0 to 1."""
    learning_rates: Mapping[str, list[Mapping[str, float | None]]]
    """Mode -> for each start: learning rate -> its lowest log loss on the valid span, None where it diverged."""
    taken_over: Mapping[str, Mapping[str, int]] | None = None
    """Mode -> embedding table -> rows taken over from the previous rankers; None without previous ones."""
    gain_over_control: Mapping[str, Any] | None = None
    """Mode -> slice -> gain in AUC over its permuted control; None in the results of earlier versions."""


@dataclasses.dataclass(frozen=True)
class VersionFacts(Facts):
    """One exported version of a served model."""

    version: int
    """Its number."""
    warm_up_requests: int
    """Requests that it warms up with."""
