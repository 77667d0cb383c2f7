"""The rank stage: one ranker per image-feature mode, each with the same budget, compared on the valid span."""

import dataclasses
import functools
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.catalogue import CATEGORY_CODE, Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals, VisualOrigin
from courier_tf.ranking.columns import Columns
from courier_tf.ranking.comparison import VALID_FILE, best_start, compare, predictions_of, start_directory
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.evaluation import Evaluation, read_evaluation
from courier_tf.ranking.fit import SharedRanker, fit, fit_best, rates_of
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import Plan, load_plan, load_ranker, load_starts
from courier_tf.ranking.train_span import context_of, train_users, user_table_of
from courier_tf.ranking.user_columns import UserTable
from courier_tf.ranking.visual_features.registry import features_of, needs_codes, needs_embeddings
from courier_tf.ranking.warm_start import rows_in_common, warm_start
from courier_tf.settings import RankSettings
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE, is_control, visual_feature_names
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.facts import IngestFacts, RankFacts
from courier_tf.workdir.leakage import require_past_histories
from courier_tf.workdir.provenance import MadeBy, fingerprint_of
from courier_tf.workdir.stages import CLUSTER, INGEST, RANK
from courier_tf.workers.workers import ALONE, Workers

LOG = logging.getLogger(__name__)

START_STRIDE = 1_000_003  # Between the seeds of the starts of one run: no two runs share one.
COPY_SUFFIX = ".copying"


def same_rankers(mode: str, made_by: MadeBy, other: MadeBy) -> bool:
    """Whether two rank stages that have a mode train the same rankers for it.

    They do if their settings and their inputs are the same. Other modes do not count, nor do inputs that the mode does
    not read.
    """
    # A control shuffles visuals over the items that have a code.
    unread = set() if needs_codes(mode) or is_control(mode) else {"cluster"}
    unread |= set() if needs_embeddings([mode]) else {"embed"}
    fingerprints = {
        fingerprint_of(
            (
                {name: value for name, value in stage.settings.items() if name != "rank_modes"},
                {name: value for name, value in stage.inputs.items() if name not in unread},
                stage.code,
            )
        )
        for stage in (made_by, other)
    }
    return len(fingerprints) == 1


def rank(
    ingest: Path,
    cluster: Path,
    embed: Path | None,
    target: Path,
    settings: RankSettings,
    seed: int,
    made_by: MadeBy,
    trained: Mapping[str, Path] | None = None,
    previous: Path | None = None,
    workers: Workers = ALONE,
) -> None:
    """Trains and measures every mode of `settings.rank_modes`.

    Args:
        ingest, cluster: directories of those stages.
        embed: directory of that stage; required if `needs_embeddings` is true for the modes.
        target: directory to write. An interrupted run goes on where it stopped.
        settings: those of this stage.
        seed: of weights and order.
        made_by: what determines the result.
        trained: mode -> rank stage whose rankers are copied instead of trained. `same_rankers` must be true for them.
        previous: directory of the rank stage of an earlier run. The rankers start from its rankers, as in a daily
            retraining: they take the weights of the same users, items and values.
        workers: those that train together. The chief measures and writes.

    Raises:
        RankingError: there are fewer train impressions than a batch holds, an item column does not exist, or the
            previous stage does not fit.
        DivergenceError: rankers of a mode diverge in their first pass, at every learning rate.
        LeakageError: a history holds what comes later.
    """
    facts = artefacts.read(ingest, INGEST).facts
    _require_usable(facts, settings)
    require_past_histories(ingest, ("train", "valid"))
    shop = _Shop.read(ingest, cluster, embed, facts, settings)
    with artefacts.write_aside(target, made_by, keep_partial=True, writes=workers.is_chief) as draft:
        for interrupted in draft.path.glob(f".*{COPY_SUFFIX}"):
            shutil.rmtree(interrupted)
        predictions, gates, taken_over = {}, {}, {}
        for mode in settings.rank_modes:
            if trained and mode in trained and workers.is_chief:
                _copy_once(trained[mode] / mode, draft.path / mode)
            plan = plan_of(mode, shop.catalogue, shop.users, shop.user_buckets, shop.visual, settings, seed)
            plan = plan._replace(context=shop.context, user_table=shop.user_table)
            source = _Previous.of(mode, cluster, settings, previous) if previous else None
            if source:
                taken_over[mode] = rows_in_common(plan, load_plan(source.directories[0]))
            _log_begin(mode, plan, source, taken_over.get(mode))
            _train(mode, plan, source, shop, draft.path, settings, seed, workers)
            if not workers.is_chief:
                continue
            predictions[mode] = predictions_of(ingest, draft.path, mode, settings, "valid")
            np.save(draft.path / mode / VALID_FILE, predictions[mode])
            if plan.architecture.gated and plan.architecture.visual_features:
                gates[mode] = _mean_gates(_directories(draft.path, mode, settings))
        if not workers.is_chief:
            return
        draft.facts = RankFacts(
            **compare(shop.evaluation, predictions),
            modes=settings.rank_modes,
            starts=settings.rank_starts,
            history_length=settings.rank_history_length,
            encoder=artefacts.read(cluster, CLUSTER).facts.encoder,
            valid_from_seconds=facts.valid_from_seconds,
            test_from_seconds=facts.test_from_seconds,
            best_start={mode: best_start(shop.evaluation, scores) for mode, scores in predictions.items()},
            category_gates=gates,
            learning_rates={
                mode: [rates_of(directory) for directory in _directories(draft.path, mode, settings)]
                for mode in settings.rank_modes
            },
            taken_over=taken_over if previous else None,
        )


def _require_usable(facts: IngestFacts, settings: RankSettings) -> None:
    rows = facts.counts.get("impressions_train", 0)
    if rows < settings.rank_batch_size:
        raise RankingError(
            f"the train span has {rows} impressions, fewer than rank_batch_size={settings.rank_batch_size}"
        )
    for name in ("rank_columns", "rank_number_columns", "rank_list_columns", "rank_slice_columns"):
        missing = set(getattr(settings, name)) - set(facts.all_columns)
        if missing:
            raise RankingError(f"{name}: items have no columns {sorted(missing)}, but {facts.all_columns}")
    for name in ("rank_context_columns", "rank_context_number_columns"):
        if missing := set(getattr(settings, name)) - set(facts.context_columns):
            raise RankingError(f"{name}: impressions have no columns {sorted(missing)}, but {facts.context_columns}")
    for name in ("rank_user_columns", "rank_user_number_columns"):
        if missing := set(getattr(settings, name)) - set(facts.user_columns):
            raise RankingError(f"{name}: users have no columns {sorted(missing)}, but {facts.user_columns}")


@dataclasses.dataclass(frozen=True)
class _Shop:
    """What the rankers of all modes are trained and measured on.

    Attributes:
        ingest: directory of the ingest stage.
        catalogue: codes of all items.
        users: [U] bytes, users with an embedding of their own; none where their ids are hashed.
        user_buckets: rows that the ids of users are hashed into; 0 where they are not.
        visual: visuals of the same items.
        evaluation: the valid split.
        train_rows: number of train impressions.
        context: what the train span knows of the context columns.
        user_table: columns of the users.
    """

    ingest: Path
    catalogue: Catalogue
    users: np.ndarray
    user_buckets: int
    visual: CatalogueVisuals
    evaluation: Evaluation
    train_rows: int
    context: Columns
    user_table: UserTable

    @classmethod
    def read(
        cls, ingest: Path, cluster: Path, embed: Path | None, facts: IngestFacts, settings: RankSettings
    ) -> "_Shop":
        items = records.read_items(ingest, facts.all_columns)
        visual = CatalogueVisuals.read(cluster, embed, items.ids, items.in_train_span(facts.valid_from_seconds))
        own_items = int((items.train_impressions >= settings.rank_min_item_impressions).sum())
        users = np.array([], object)
        if settings.rank_hash_above or not settings.rank_hash_buckets:
            users = train_users(ingest, settings.rank_min_user_page_views)
        buckets = _buckets(settings, len(users))
        others = {*settings.rank_number_columns, *settings.rank_list_columns}
        catalogue = Catalogue.of(
            items,
            settings.rank_columns or [name for name in facts.item_columns if name not in others],
            facts.valid_from_seconds,
            facts.repeat_columns,
            _buckets(settings, own_items),
            settings.rank_min_item_impressions,
            settings.rank_number_columns,
            settings.rank_list_columns,
            settings.rank_list_separator,
        )
        evaluation = read_evaluation(ingest, "valid", items, facts.repeat_columns, settings.rank_slice_columns)
        users = users[:0] if buckets else users
        context = context_of(ingest, facts.context_columns, settings)
        rows = facts.counts["impressions_train"]
        user_table = user_table_of(ingest, facts.user_columns, settings)
        return cls(ingest, catalogue, users, buckets, visual, evaluation, rows, context, user_table)


def _buckets(settings: RankSettings, rows: int) -> int:
    """The rows that ids are hashed into, where a table would have so many rows otherwise; 0 for a row of its own each.

    >>> [_buckets(RankSettings(rank_hash_buckets=50, rank_hash_above=100), rows) for rows in (100, 101)]
    [0, 50]
    """
    return settings.rank_hash_buckets if not settings.rank_hash_above or rows > settings.rank_hash_above else 0


@dataclasses.dataclass(frozen=True)
class _Previous:
    """The rankers of a previous rank stage that those of a mode start from: of the same mode, or else of `none`.

    Attributes:
        directories: one per start.
        transferable: whether the weights of their visual features keep their meaning here.
    """

    directories: list[Path]
    transferable: bool

    @classmethod
    def of(cls, mode: str, cluster: Path, settings: RankSettings, directory: Path) -> "_Previous":
        """Finds the rankers for a mode.

        Args:
            mode: the new mode.
            cluster: directory of the new cluster stage.
            settings: of the new rank stage.
            directory: of the previous rank stage.

        Raises:
            RankingError: the previous stage has rankers neither of the mode nor of `none`.
        """
        previous = artefacts.read(directory, RANK)
        best = previous.facts.best_start
        source = mode if mode in best else NO_VISUAL_FEATURE
        if source not in best:
            raise RankingError(f"{directory} has neither a ranker '{mode}' nor '{NO_VISUAL_FEATURE}' to start from")
        # Each start begins from the start with its number, if there is one: starts that differ stay different.
        numbers = [start if start < previous.facts.starts else best[source] for start in range(settings.rank_starts)]
        clustered = artefacts.read(cluster, CLUSTER)
        then = VisualOrigin(previous.facts.encoder, previous.made_by.inputs["cluster"])
        now = VisualOrigin(clustered.facts.encoder, clustered.fingerprint, clustered.made_by.inputs.get("previous"))
        # What a control has learned of an item's visuals belongs to another item today.
        transferable = not is_control(mode) and all(feature.is_transferable(then, now) for feature in features_of(mode))
        return cls([start_directory(previous.path, source, number) for number in numbers], transferable)

    def start(self, ranker: Ranker, plan: Plan, start: int) -> None:
        """Gives a new ranker the weights of the previous one with the same number."""
        directory = self.directories[start]
        warm_start(ranker, plan, load_ranker(directory), load_plan(directory), self.transferable)


def plan_of(
    mode: str,
    catalogue: Catalogue,
    users: np.ndarray,
    user_buckets: int,
    visual: CatalogueVisuals,
    settings: RankSettings,
    seed: int,
) -> Plan:
    """What the rankers of a mode are made of. They get only the visuals that the mode reads."""
    if is_control(mode):
        visual = visual.permuted(seed)
    if not needs_embeddings([mode]):
        visual = visual.without_embeddings()
    if not needs_codes(mode):
        visual = visual.without_codes()
    architecture = Architecture(
        visual_features=visual_feature_names(mode),
        dim=settings.rank_dim,
        gated=settings.rank_category_gate,
        cross_layers=settings.rank_cross_layers,
        nearest_items=settings.rank_nearest_items,
        listwise_weight=settings.rank_listwise_weight,
        user_buckets=user_buckets,
    )
    return Plan(catalogue, users, visual, architecture)


def _log_begin(mode: str, plan: Plan, source: _Previous | None, common: Mapping[str, int] | None) -> None:
    users = len(plan.users) or plan.architecture.user_buckets
    sizes = dict(zip(plan.catalogue.names, plan.catalogue.sizes, strict=True))
    LOG.info("ranker '%s': %d users, codes %s", mode, users, sizes)
    if source:
        LOG.info("starts from %s, rows in common: %s", source.directories[0].parent, common)
        if visual_feature_names(mode) and not source.transferable:
            LOG.info("its cluster IDs or embeddings have another meaning here: the visual features start anew")


def _train(
    mode: str,
    plan: Plan,
    source: _Previous | None,
    shop: _Shop,
    target: Path,
    settings: RankSettings,
    seed: int,
    workers: Workers,
) -> None:
    """Trains the rankers of all starts of a mode, those that are not finished."""
    shared = SharedRanker(plan, settings, workers)
    for number, directory in enumerate(_directories(target, mode, settings)):
        train = functools.partial(
            fit,
            ingest=shop.ingest,
            plan=plan,
            start=functools.partial(source.start, plan=plan, start=number) if source else None,
            evaluation=shop.evaluation,
            settings=settings,
            shared=shared,
            workers=workers,
            pass_steps=shop.train_rows // settings.rank_batch_size,
            seed=seed + number * START_STRIDE,
        )
        fit_best(directory, settings.rank_learning_rates, train, workers)


def _directories(ranked: Path, mode: str, settings: RankSettings) -> list[Path]:
    """The directories of all starts of a mode."""
    return [start_directory(ranked, mode, number) for number in range(settings.rank_starts)]


def _copy_once(source: Path, target: Path) -> None:
    """Copies a whole mode, or nothing. `rank` removes an interrupted copy."""
    aside = target.with_name(f".{target.name}{COPY_SUFFIX}")
    if not target.exists():
        LOG.info("ranker '%s': that of %s", target.name, source.parent.name)
        shutil.copytree(source, aside).rename(target)


def _mean_gates(directories: Sequence[Path]) -> dict[str, float]:
    """Category -> how far its gate is open, from 0 to 1; the mean over the rankers in these directories."""
    gates = [ranker.image.gate.values() for ranker in load_starts(directories) if ranker.image.gate]
    categories = load_plan(directories[0]).catalogue.vocabularies[CATEGORY_CODE]
    mean = np.mean(gates, axis=0)
    return {value.decode(): float(gate) for value, gate in zip([b"(unknown)", *categories], mean, strict=True)}
