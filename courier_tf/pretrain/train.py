"""The two pre-training stages: supervised pre-training on catalogue columns, and the objective on page views."""

import dataclasses
from collections.abc import Set
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf.pretrain import data
from courier_tf.pretrain.encoder import Encoder, save_encoder
from courier_tf.pretrain.fit import ENCODER_FOLDER, Budget, fit, new_encoder
from courier_tf.pretrain.frozen_encoder import export_embedder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.objectives.clip import Clip, title_words
from courier_tf.pretrain.objectives.courier import Courier
from courier_tf.pretrain.objectives.mil_nce import MilNce
from courier_tf.pretrain.objectives.objective import Objective
from courier_tf.pretrain.objectives.simclr import SimClr
from courier_tf.pretrain.objectives.simcse import SimCse
from courier_tf.pretrain.objectives.simsiam import SimSiam
from courier_tf.pretrain.objectives.supervised import Supervised, column_codes
from courier_tf.pretrain.photo_store import PhotoStore
from courier_tf.pretrain.score import held_out_score
from courier_tf.settings import PretrainSettings
from courier_tf.training import TrainingError, precision_policy
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.facts import EncoderFacts, IngestFacts
from courier_tf.workdir.leakage import require_past_histories, require_past_page_views
from courier_tf.workdir.stages import INGEST

EMBEDDER_FOLDER = "embedder"  # SavedModel, for the embed stage.
WATCHED_PHOTOS = 512


def pretrain_supervised(
    ingest: Path, target: Path, settings: PretrainSettings, seed: int, made_by: artefacts.MadeBy
) -> None:
    """Trains a new encoder on the catalogue's columns (objective `supervised`), with train-span items only.

    Args:
        ingest: directory of the ingest stage.
        target: directory to write; an interrupted run goes on from its last checkpoint.
        settings: those of pre-training.
        seed: of weights and order.
        made_by: what determines the result.

    Raises:
        TrainingError: the catalogue has no column with two values, or fewer photos than a batch.
    """
    catalogue = _Catalogue.read(ingest)
    sizes, codes = _column_codes(catalogue)
    numbers = np.flatnonzero(catalogue.train & catalogue.items.has_photo) + 1
    if len(numbers) < settings.supervised_batch_size:
        raise TrainingError(
            f"the train span has {len(numbers)} photos, fewer than "
            f"supervised_batch_size={settings.supervised_batch_size}"
        )

    def build(encoder: Encoder) -> CourierModel:
        objective = Supervised(list(sizes.values()))
        return CourierModel(encoder, objective, weight_decay=0.0, chunk=settings.encode_chunk, seed=seed)

    def batches(share: int, skip: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        own = numbers[context.input_pipeline_id :: context.num_input_pipelines]
        return data.photo_batches(
            catalogue.store, own, {"codes": codes}, batch_size=share, seed=seed, skip_batches=skip
        )

    with artefacts.write_aside(target, made_by, keep_partial=True) as draft:
        budget = Budget(
            settings.supervised_steps,
            settings.supervised_learning_rate,
            settings.supervised_batch_size,
            "supervised_batch_size",
        )
        model = fit(draft.path, settings, seed, None, build, batches, budget, catalogue.sample())
        draft.facts = dataclasses.replace(_finish(model.encoder, ingest, catalogue, draft.path), columns=sizes)


def pretrain(
    ingest: Path, start: Path, target: Path, settings: PretrainSettings, seed: int, made_by: artefacts.MadeBy
) -> None:
    """Trains the encoder found in `start` with the objective of the settings, on the train span's page views.

    With the objective `base` the encoder stays as it is.

    Args:
        ingest: directory of the ingest stage.
        start: directory of supervised pre-training or of a former pre-training, or a file with weights of a Swin
            backbone.
        target, settings, seed, made_by: as in `pretrain_supervised`.

    Raises:
        TrainingError: fewer page views with a click (that fulfils `pretrain_where`) and a history than a batch, or
            `pretrain_where` names a column that items do not have.
        LeakageError: a history holds what comes later.
    """
    ties = artefacts.read(ingest, INGEST).facts.history_ties
    require_past_page_views(ingest, log_order=ties == "log_order")
    require_past_histories(ingest, ("train", "valid"))  # Of valid the encoder is scored on impressions.
    column = (settings.pretrain_where or "").partition("=")[0]
    catalogue = _Catalogue.read(ingest, {column} if column else set())
    with artefacts.write_aside(target, made_by, keep_partial=True) as draft:
        if settings.objective == "base":
            with precision_policy(settings.precision):
                draft.facts = _finish(new_encoder(settings, start), ingest, catalogue, draft.path)
        else:
            model = _learn(ingest, catalogue, start, draft.path, settings, seed)
            draft.facts = _finish(model.encoder, ingest, catalogue, draft.path, model.objective)


def _learn(
    ingest: Path, catalogue: "_Catalogue", start: Path, partial: Path, settings: PretrainSettings, seed: int
) -> CourierModel:
    teaching = catalogue.where(settings.pretrain_where) if settings.pretrain_where else None
    rows = catalogue.facts.counts.get("page_views_train", 0)
    if teaching is not None:
        rows = data.teaching_rows(ingest, catalogue.store, teaching)
    if rows < settings.pretrain_batch_rows:
        clicked = f"a click on an item with {settings.pretrain_where}" if settings.pretrain_where else "a click"
        raise TrainingError(
            f"the train span has {rows} page views with {clicked} and a history, fewer than "
            f"pretrain_batch_rows={settings.pretrain_batch_rows}"
        )
    photos = int((catalogue.train & catalogue.items.has_photo).sum())
    if photos < 2:
        raise TrainingError(f"of the items of the train span {photos} have a photo: there is nothing to learn from")
    attributes = _attributes(ingest, catalogue, settings)

    def build(encoder: Encoder) -> CourierModel:
        objective = _objective(catalogue, settings)
        return CourierModel(encoder, objective, settings.weight_decay, chunk=settings.encode_chunk, seed=seed)

    def batches(share: int, skip: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        return data.page_view_batches(
            ingest,
            catalogue.store,
            history_length=settings.history_length,
            page_view_size=catalogue.facts.page_view_size,
            batch_rows=share,
            seed=seed,
            inline=catalogue.facts.inline_photos,
            attributes=attributes,
            teaching=teaching,
            skip_batches=skip,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
        )

    budget = Budget(
        settings.pretrain_steps,
        settings.pretrain_learning_rate,
        settings.pretrain_batch_rows,
        "pretrain_batch_rows",
    )
    return fit(partial, settings, seed, start, build, batches, budget, catalogue.sample())


@dataclasses.dataclass(frozen=True)
class _Catalogue:
    """The items, their photos, and which of them training may know."""

    facts: IngestFacts
    items: records.Items
    store: PhotoStore
    train: np.ndarray  # [N] bool

    @classmethod
    def read(cls, ingest: Path, columns: Set[str] = frozenset()) -> "_Catalogue":
        """With these columns beside those that are always read."""
        facts = artefacts.read(ingest, INGEST).facts
        if not columns <= set(facts.all_columns):
            raise TrainingError(f"items have no column {', '.join(sorted(columns))}, but {facts.all_columns}")
        items = records.read_items(ingest, sorted({*facts.item_columns, *facts.repeat_columns, *columns}))
        store = PhotoStore.of(items, facts.image_size)
        return cls(facts, items, store, items.in_train_span(facts.valid_from_seconds))

    def where(self, condition: str) -> np.ndarray:
        """[N + 1] bool by item number: items that fulfil COLUMN=VALUE."""
        column, _, value = condition.partition("=")
        return np.concatenate([[False], self.items.columns[column] == value.encode()])

    def sample(self) -> np.ndarray:
        """[M, S, S, 3] uint8: photos of the train span, always the same, to watch the embeddings on."""
        numbers = np.flatnonzero(self.train & self.items.has_photo) + 1
        return self.store.decoded(np.random.default_rng(0).permutation(numbers)[:WATCHED_PHOTOS])


def _column_codes(catalogue: _Catalogue) -> tuple[dict[str, int], np.ndarray]:
    """(Number of codes of each column that has two, [N + 1, columns] int32 codes by item number)."""
    known = catalogue.train & catalogue.items.has_photo
    codes = {column: column_codes(catalogue.items.columns[column], known) for column in catalogue.facts.item_columns}
    usable = {column: code for column, code in codes.items() if code[1] > 1}
    if not usable:
        raise TrainingError(f"none of the item columns {list(codes)} has two values in the train span to learn from")
    by_item = np.stack([code for code, _ in usable.values()], axis=1)
    unknown = np.full([1, by_item.shape[1]], -1, np.int32)
    return {column: size for column, (_, size) in usable.items()}, np.concatenate([unknown, by_item])


def _objective(catalogue: _Catalogue, settings: PretrainSettings) -> Objective:
    own = {} if settings.temperature is None else {"temperature": settings.temperature}
    match settings.objective:
        case "courier":
            return Courier(
                settings.reconstruction,
                negatives=settings.contrast_with,
                copied_targets=settings.copied_targets,
                accidental_negatives=settings.accidental_negatives,
                losses=settings.courier_losses,
                projection=settings.projection_head,
                **own,
            )
        case "supervised":
            return Supervised(list(_column_codes(catalogue)[0].values()))
        case "simsiam":
            return SimSiam()
        case name:
            return {"simclr": SimClr, "simcse": SimCse, "mil_nce": MilNce, "clip": Clip}[name](**own)


def _attributes(ingest: Path, catalogue: _Catalogue, settings: PretrainSettings) -> dict[str, np.ndarray]:
    """What the objective wants to know of each photo's item: arrays [N + 1, ...] by item number."""
    if settings.objective == "supervised":
        return {"codes": _column_codes(catalogue)[1]}
    if settings.objective == "clip":
        return {"words": title_words(np.concatenate([[b""], catalogue.items.titles]))}
    if settings.objective == "courier" and settings.contrast_with == "popularity_corrected":
        return {"log_share": data.log_shares(ingest, catalogue.store)}
    return {}


def _finish(
    encoder: Encoder, ingest: Path, catalogue: _Catalogue, partial: Path, objective: Objective | None = None
) -> EncoderFacts:
    """Writes the encoder and its SavedModel, and measures the held-out score."""
    data = catalogue.facts
    save_encoder(encoder, partial / ENCODER_FOLDER)
    export_embedder(partial / ENCODER_FOLDER, data.image_size, partial / EMBEDDER_FOLDER)
    weights = artefacts.fingerprint_of_tree(partial / ENCODER_FOLDER)
    return EncoderFacts(
        # What the embeddings depend on, and nothing else: an encoder that stays as it is keeps its codebook.
        encoder=artefacts.fingerprint_of([weights, data.image_size]),
        embedding_dim=encoder.embedding_dim,
        image_size=data.image_size,
        valid_from_seconds=data.valid_from_seconds,
        held_out=held_out_score(
            encoder,
            ingest,
            catalogue.items,
            catalogue.store,
            data.repeat_columns,
            objective if isinstance(objective, Courier) else None,
        ),
    )
