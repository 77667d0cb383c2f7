"""The rank stage: one ranker per image-feature mode, each with the same budget, compared on the valid span."""

import dataclasses
import functools
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from courier_tf.ranking import data
from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.catalogue import CATEGORY_CODE, Catalogue
from courier_tf.ranking.comparison import VALID_FILE, best_start, compare, predictions_of, start_directory
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.evaluation import read_evaluation
from courier_tf.ranking.fit import PREDICT_BATCH, fit, fit_best, rates_of
from courier_tf.ranking.image_features import features_of, needs_codes, needs_embeddings
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import Plan, load_plan, load_ranker
from courier_tf.ranking.visual_features import VisualFeatures, VisualOrigin
from courier_tf.ranking.warm_start import rows_in_common, warm_start
from courier_tf.settings import RankSettings
from courier_tf.settings.rank_modes import NO_IMAGE_FEATURE, image_feature_names, is_control
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.facts import RankFacts
from courier_tf.workdir.leakage import require_past_histories
from courier_tf.workdir.stages import CLUSTER, INGEST, RANK

LOG = logging.getLogger(__name__)

START_STRIDE = 1_000_003  # Between the seeds of the starts of one run: no two runs share one.
COPY_SUFFIX = ".copying"


def same_rankers(mode: str, one: artefacts.MadeBy, other: artefacts.MadeBy) -> bool:
    """Whether two rank stages that have a mode train the same rankers for it.

    They do with the same settings (other modes apart) from the same inputs, as far as the mode sees them.
    """
    # A control shuffles visual features over the items that have a code.
    unseen = set() if needs_codes(mode) or is_control(mode) else {"cluster"}
    unseen |= set() if needs_embeddings([mode]) else {"embed"}
    seen = [
        (
            {name: value for name, value in made_by.settings.items() if name != "rank_modes"},
            {name: value for name, value in made_by.inputs.items() if name not in unseen},
            made_by.code,
        )
        for made_by in (one, other)
    ]
    return artefacts.fingerprint_of(seen[0]) == artefacts.fingerprint_of(seen[1])


def rank(
    ingest: Path,
    cluster: Path,
    embed: Path | None,
    target: Path,
    settings: RankSettings,
    seed: int,
    made_by: artefacts.MadeBy,
    trained: Mapping[str, Path] | None = None,
    previous: Path | None = None,
) -> None:
    """Trains and measures every mode of `settings.rank_modes`.

    Args:
        ingest, cluster: directories of those stages.
        embed: directory of that stage; needed where `needs_embeddings` says so.
        target: directory to write; an interrupted run goes on where it stopped.
        settings: those of this stage.
        seed: of weights and order.
        made_by: what determines the result.
        trained: rank stages by the modes whose rankers are taken from them, not trained again: `same_rankers` must say
            that they are the same.
        previous: directory of the rank stage of an earlier run. Its rankers are what these start from, as in a daily
            retrain: what belongs to the same user, item or value is taken over.

    Raises:
        RankingError: fewer train impressions than a batch, an item column that does not exist, or a former stage to
            start from that does not fit.
        DivergenceError: rankers of an image feature diverge in their first pass, at every learning rate.
        LeakageError: a history holds what comes later.
    """
    facts = artefacts.read(ingest, INGEST).facts
    rows = facts.counts.get("impressions_train", 0)
    if rows < settings.rank_batch_size:
        raise RankingError(
            f"the train span has {rows} impressions, fewer than rank_batch_size={settings.rank_batch_size}"
        )
    for name in ("rank_columns", "rank_slice_columns"):
        missing = set(getattr(settings, name)) - set(facts.all_columns)
        if missing:
            raise RankingError(f"{name}: items have no columns {sorted(missing)}, but {facts.all_columns}")
    require_past_histories(ingest, ("train", "valid"))
    items = records.read_items(ingest, facts.all_columns)
    visual = VisualFeatures.read(cluster, embed, items.ids, items.in_train_span(facts.valid_from_seconds))
    catalogue = Catalogue.of(
        items,
        settings.rank_columns or facts.item_columns,
        facts.valid_from_seconds,
        facts.repeat_columns,
        settings.rank_hash_buckets,
        settings.rank_min_item_impressions,
    )
    hashes = settings.rank_hash_buckets > 0
    users = np.array([], object) if hashes else train_users(ingest, settings.rank_min_user_page_views)
    evaluation = read_evaluation(ingest, "valid", items, facts.repeat_columns, settings.rank_slice_columns)
    starts = range(settings.rank_starts)
    with artefacts.write_aside(target, made_by, keep_partial=True) as draft:
        partial = draft.path
        for begun in partial.glob(f".*{COPY_SUFFIX}"):  # By a copy that was interrupted.
            shutil.rmtree(begun)
        predictions, gates, taken = {}, {}, {}
        for mode in settings.rank_modes:
            plan = plan_of(mode, catalogue, users, visual, settings, seed)
            sizes = dict(zip(catalogue.names, catalogue.sizes, strict=True))
            LOG.info("ranker '%s': %d users, codes %s", mode, len(users) or settings.rank_hash_buckets, sizes)
            if trained and mode in trained:
                _copy_once(trained[mode] / mode, partial / mode)
            former = _Former.of(mode, cluster, settings, previous)
            if former:
                taken[mode] = rows_in_common(plan, load_plan(former.directories[0]))
                LOG.info("starts from %s, rows in common: %s", former.directories[0].parent, taken[mode])
                if image_feature_names(mode) and not former.transferable:
                    LOG.info("its visual features have another meaning: the image features start anew")
            for start in starts:
                begin = functools.partial(former.give, plan=plan, start=start) if former else None
                train = functools.partial(
                    fit,
                    ingest=ingest,
                    plan=plan,
                    start=begin,
                    evaluation=evaluation,
                    settings=settings,
                    pass_steps=rows // settings.rank_batch_size,
                    seed=seed + start * START_STRIDE,
                )
                fit_best(start_directory(partial, mode, start), settings.rank_learning_rates, train)
            predictions[mode] = predictions_of(ingest, partial, mode, settings, "valid")
            np.save(partial / mode / VALID_FILE, predictions[mode])
            if plan.architecture.gated and plan.architecture.image_features:
                gates[mode] = _mean_gates([start_directory(partial, mode, start) for start in starts])
        draft.facts = RankFacts(
            **compare(evaluation, predictions),
            modes=settings.rank_modes,
            starts=settings.rank_starts,
            history_length=settings.rank_history_length,
            encoder=artefacts.read(cluster, CLUSTER).facts.encoder,
            valid_from_seconds=facts.valid_from_seconds,
            test_from_seconds=facts.test_from_seconds,
            best_start={mode: best_start(evaluation, scores) for mode, scores in predictions.items()},
            category_gates=gates,
            learning_rates={
                mode: [rates_of(start_directory(partial, mode, start)) for start in starts]
                for mode in settings.rank_modes
            },
            taken_over=taken if previous else None,
        )


def _copy_once(source: Path, target: Path) -> None:
    """A whole copy, or none: `rank` removes what one that was interrupted has left."""
    aside = target.with_name(f".{target.name}{COPY_SUFFIX}")
    if not target.exists():
        LOG.info("ranker '%s': that of %s", target.name, source.parent.name)
        shutil.copytree(source, aside).rename(target)


def plan_of(
    mode: str, catalogue: Catalogue, users: np.ndarray, visual: VisualFeatures, settings: RankSettings, seed: int
) -> Plan:
    """What the rankers of a mode are made of."""
    names = image_feature_names(mode)
    if is_control(mode):
        visual = visual.permuted(seed)
    if not needs_embeddings([mode]):
        visual = visual.without_embeddings()
    if not needs_codes(mode):
        visual = visual.without_codes()
    architecture = Architecture(
        names, settings.rank_dim, settings.rank_category_gate, settings.rank_cross_layers, settings.rank_hash_buckets
    )
    return Plan(catalogue, users, visual, architecture)


@dataclasses.dataclass(frozen=True)
class _Former:
    """The rankers of a former rank stage that those of a mode start from: of the same mode, else of `none`.

    Attributes:
        directories: one per start.
        transferable: whether what they have learned of the image features keeps its meaning here.
    """

    directories: list[Path]
    transferable: bool

    @classmethod
    def of(cls, mode: str, cluster: Path, settings: RankSettings, previous: Path | None) -> "_Former | None":
        """None where there is no previous rank stage."""
        if previous is None:
            return None
        former = artefacts.read(previous, RANK)
        best = former.facts.best_start
        source = mode if mode in best else NO_IMAGE_FEATURE
        if source not in best:
            raise RankingError(f"{former.path} has neither a ranker '{mode}' nor '{NO_IMAGE_FEATURE}' to start from")
        starts = former.facts.starts
        # The same number, where there is one: starts that differ stay different.
        numbers = [start if start < starts else best[source] for start in range(settings.rank_starts)]
        clustered = artefacts.read(cluster, CLUSTER)
        then = VisualOrigin(former.facts.encoder, former.made_by.inputs["cluster"])
        now = VisualOrigin(clustered.facts.encoder, clustered.fingerprint, clustered.made_by.inputs.get("previous"))
        # What a control has learned of an item's visual features belongs to another item today.
        transferable = not is_control(mode) and all(feature.is_transferable(then, now) for feature in features_of(mode))
        directories = [start_directory(former.path, source, number) for number in numbers]
        return cls(directories, transferable)

    def give(self, ranker: Ranker, plan: Plan, start: int) -> None:
        """Gives a new ranker what a former one has learned."""
        directory = self.directories[start]
        warm_start(ranker, plan, load_ranker(directory), load_plan(directory), self.transferable)


def _mean_gates(directories: Sequence[Path]) -> dict[str, float]:
    """Category -> how far its gate is open, the mean of these rankers."""
    gates = [load_ranker(directory).image.gate for directory in directories]
    categories = load_plan(directories[0]).catalogue.vocabularies[CATEGORY_CODE]
    mean = np.mean([gate.values() for gate in gates if gate], axis=0)
    return {value.decode(): float(gate) for value, gate in zip([b"(unknown)", *categories], mean, strict=True)}


def train_users(ingest: Path, min_page_views: int = 1) -> np.ndarray:
    """[U] bytes, sorted: the users of the train impressions who have at least so many page views there."""
    page_views: dict[bytes, set[bytes]] = {}
    for batch in data.impression_batches(ingest, "train", history_length=1, batch_size=PREDICT_BATCH):
        pairs = zip(batch["user_id"].numpy().tolist(), batch["page_view_id"].numpy().tolist(), strict=True)
        for user, page_view in set(pairs):
            seen = page_views.setdefault(user, set())
            if len(seen) < min_page_views:  # More of them need not be kept.
                seen.add(page_view)
    return np.array(sorted(user for user, seen in page_views.items() if len(seen) >= min_page_views), object)
