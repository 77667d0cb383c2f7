"""`ctr_ranker`: raw features in, click probabilities out. Its graph is in `served_ranker.py`."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.samples import ROWS, valid_batches
from courier_tf.exporting.served_model import LARGEST_DIFFERENCE, ServedModel, largest
from courier_tf.exporting.served_ranker import ServedRanker
from courier_tf.ranking.data import impression_batches
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import load_context_names, load_ranker
from courier_tf.ranking.soundness import MOST_MISCALIBRATION, auc_with_error, is_miscalibrated
from courier_tf.settings import PromotionSettings
from serving.bundle.graph_model import GraphModel, Method
from serving.client import contract
from serving.client.contract import MOST_ROWS, Request

CANDIDATES = (10, 100, 500)  # Of one row of `rank`, in the requests of the warm-up.
COMPARED_BATCHES = 2  # Of impressions, with the trained ranker.
RANKED = 8  # Candidates of a user in that comparison.
MEASURED_BATCHES = 64  # Of impressions, for AUC and calibration.
NORMAL_95 = 1.96  # Standard errors on each side of a figure that cover 95 % of the cases.


class CtrRanker(ServedModel):
    """The descriptor of `ctr_ranker`. Its requests are not joined.

    Joined, requests would be padded to the longest list of candidates, and all would fail where one is refused.
    """

    name = contract.CTR_RANKER
    answers = "user, history, candidates -> probability of a click"
    signatures: ClassVar[Mapping[str, Method]] = {
        contract.DEFAULT_SIGNATURE: "predict",
        contract.RANK: "predict",
        contract.EXAMPLES: "predict",
        contract.CLASSIFY: "classify",
        contract.REGRESS: "regress",
    }

    def inputs(self, stages: FinishedStages) -> dict[str, str]:
        return {"rank": stages.rank.fingerprint, "cluster": stages.cluster.fingerprint}

    def settings(self, stages: FinishedStages) -> dict[str, Any]:
        return {"mode": stages.mode}

    def build(self, stages: FinishedStages, version: int) -> ServedRanker:
        return ServedRanker(stages.ranker, stages.history_length, version)

    def requests(self, stages: FinishedStages) -> list[Request]:
        return ranker_requests(stages.ingest.path, stages.history_length, load_context_names(stages.ranker))

    def differences(self, served: GraphModel, stages: FinishedStages) -> list[str]:
        ranker = load_ranker(stages.ranker)
        worst = dict.fromkeys(("pairs", *self.signatures), 0.0)
        worst.pop(contract.DEFAULT_SIGNATURE)
        batches = valid_batches(stages, stages.history_length, ranker.context_names)
        for batch in itertools.islice(batches, COMPARED_BATCHES):
            for kind, difference in _differences(served, ranker, batch).items():
                worst[kind] = float(np.maximum(worst[kind], largest(difference)))  # Unlike max() it keeps NaN.
        return [
            f"the ranker's {kind} are served with a difference of {difference:.2g} to what was trained"
            for kind, difference in worst.items()
            if not difference <= LARGEST_DIFFERENCE
        ]

    def quality(self, served: GraphModel, stages: FinishedStages) -> dict[str, float]:
        """AUC and calibration on impressions of the valid span, with whole histories, as clients send them."""
        clicked: list[np.ndarray] = []
        probability: list[np.ndarray] = []
        users: list[np.ndarray] = []
        # Those of the version that is measured: an earlier one may have had others than the ranker of the stages.
        context = [name for name in served.signatures[served.signature].inputs if name not in schema.EXAMPLE_FEATURES]
        batches = valid_batches(stages, None, context, clicked.append)
        for batch in itertools.islice(batches, MEASURED_BATCHES):
            probability.append(served(**batch)["probability"])
            users.append(batch["user_id"])
        labels, scores = np.concatenate(clicked), np.concatenate(probability)
        calibration = float(scores.mean() / max(labels.mean(), 1e-9))
        defined = np.isfinite(scores).all() and 0 < labels.sum() < len(labels)
        area, error = auc_with_error(np.concatenate(users), labels, scores) if defined else (math.nan, math.nan)
        return {
            "impressions": len(labels),
            "clicks": int(labels.sum()),
            "auc": area,
            "auc_low": area - NORMAL_95 * error,
            "calibration": calibration,
            "calibration_error": abs(math.log(max(calibration, 1e-9))),
        }

    def faults(self, new: Mapping[str, float]) -> dict[str, str]:
        faults = {}
        # The bound, not the value: every second ranker that tells nothing has more than 0.5. It covers the users alone,
        # as this very ranker would be served, and no other random start.
        if new["auc_low"] <= 0.5:
            faults["auc"] = (
                f"AUC {new['auc']:.4f} on {new['impressions']:,} impressions of valid ({new['clicks']:,} clicks) is "
                f"not shown to be better than chance: its lower bound is {new['auc_low']:.4f}, the limit 0.5"
            )
        if math.isfinite(new["auc"]) and is_miscalibrated(new["calibration"], int(new["clicks"])):
            faults["calibration"] = (
                f"the predicted clicks are {new['calibration']:.2f} times the {new['clicks']:,} clicks of valid: the "
                f"limit is a factor of {MOST_MISCALIBRATION}"
            )
        return faults

    def objections(
        self, new: Mapping[str, float], stable: Mapping[str, float] | None, tolerances: PromotionSettings
    ) -> list[str]:
        reasons = []
        if not math.isfinite(new["auc"]):
            reasons.append("AUC on the valid span is not defined: all labels are equal, or a score is NaN or infinite")
        if stable is None:
            return reasons
        if new["auc"] < stable["auc"] - tolerances.auc_tolerance:
            reasons.append(f"AUC {new['auc']:.4f}, but the stable version has {stable['auc']:.4f}")
        if new["calibration_error"] > stable["calibration_error"] + tolerances.calibration_tolerance:
            reasons.append(
                f"calibration {new['calibration']:.3f}, but the stable version has {stable['calibration']:.3f}"
            )
        return reasons

    def limits(self, stages: FinishedStages) -> list[str]:
        context = load_context_names(stages.ranker)
        return [
            *(
                [f"Each request names its {', '.join(context)}: an empty text where it is not known."]
                if context
                else []
            ),
            f"`{self.name}` looks at the {stages.history_length} most recent items of a history. Users, items and "
            "columns that the train span did not know share one embedding each: such a probability says little.",
            f"A row of `{contract.RANK}` takes up to {contract.MAX_CANDIDATES:,} candidates, a request up to "
            f"{contract.MAX_PAIRS:,} pairs, which are its rows times the candidates of a row. A request to any other "
            "signature has up to as many rows.",
        ]


def ranker_requests(ingest: Path, history_length: int, context_names: Sequence[str] = ()) -> list[Request]:
    """Requests to every signature of `ctr_ranker`, from the first impressions of the valid span.

    Args:
        ingest: directory of the ingest stage.
        history_length: most recent history items.
        context_names: context columns that the ranker is asked with.
    """
    first = max(ROWS) + max(CANDIDATES)
    batch = next(
        iter(
            impression_batches(
                ingest, "valid", history_length=history_length, batch_size=first, context_columns=context_names
            )
        )
    )
    user, history, item = (batch[name].numpy() for name in schema.EXAMPLE_FEATURES)
    many = np.resize(np.unique(item), max(CANDIDATES))
    chosen = np.resize(np.arange(len(user)), max(ROWS))  # A short log is gone through again.
    user, item = user[chosen], item[chosen]
    context = {name: batch[name].numpy()[chosen] for name in context_names}
    # As in the client's requests the empty id comes first: a server that joins requests pads with the first id.
    history = np.concatenate([np.full([len(user), 1], b"", object), history[chosen]], axis=1)
    requests = []
    for rows in ROWS:
        pairs = {name: values[:rows] for name, values in context.items()}
        pairs |= dict(zip(schema.EXAMPLE_FEATURES, (user[:rows], history[:rows], item[:rows]), strict=True))
        requests.append(Request(contract.DEFAULT_SIGNATURE, pairs))
        examples = {"inputs": serialised_examples(pairs)}
        requests += [Request(name, examples) for name in (contract.EXAMPLES, contract.CLASSIFY, contract.REGRESS)]
    for rows, candidates in [(1, number) for number in CANDIDATES] + [(rows, CANDIDATES[0]) for rows in ROWS[1:]]:
        row = {"user_id": user[:rows], "history_item_ids": history[:rows]}
        row |= {name: values[:rows] for name, values in context.items()}
        requests.append(Request(contract.RANK, {**row, "item_id": np.tile(many[:candidates], [rows, 1])}))
    return requests


def serialised_examples(features: Mapping[str, np.ndarray]) -> np.ndarray:
    """[B] serialised tf.Example of the features of B pairs; "" in a history is padding."""
    rows = zip(*features.values(), strict=True)
    return np.array([_serialised_example(dict(zip(features, row, strict=True))) for row in rows], object)


def _serialised_example(row: Mapping[str, Any]) -> bytes:
    example = tf.train.Example()
    for name, value in row.items():
        values = [item for item in value if item] if name == "history_item_ids" else [value]
        example.features.feature[name].bytes_list.value.extend(values)
    return example.SerializeToString()


def _differences(served: GraphModel, ranker: Ranker, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The differences of the answers to the trained ranker's, by the kind of request, on one batch of impressions."""

    def trained(features: Mapping[str, np.ndarray]) -> np.ndarray:
        return ranker({name: tf.constant(value) for name, value in features.items()}, training=False).numpy()

    first = {name: value[:MOST_ROWS] for name, value in batch.items()}
    candidates = np.stack([np.roll(batch["item_id"], shift)[:MOST_ROWS] for shift in range(RANKED)], axis=1)
    pairs = {name: np.repeat(value, RANKED, axis=0) for name, value in first.items()} | {"item_id": candidates.ravel()}
    examples = {"inputs": serialised_examples(first)}
    probability = trained(first)
    ranked = served.run(contract.RANK, {**first, "item_id": candidates})["probability"]
    classified = served.run(contract.CLASSIFY, examples)["scores"]
    return {
        "pairs": served(**batch)["probability"] - trained(batch),
        contract.RANK: ranked.ravel() - trained(pairs),
        contract.EXAMPLES: served.run(contract.EXAMPLES, examples)["probability"] - probability,
        contract.CLASSIFY: classified - np.stack([1 - probability, probability], axis=1),
        contract.REGRESS: served.run(contract.REGRESS, examples)["outputs"] - probability,
    }
