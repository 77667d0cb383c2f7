"""The contract between stages: it is read as it was written, or refused."""

import copy
import json
import pickle

import numpy as np
import pytest

from courier_tf.workdir.facts import ClusterFacts, Facts, FactsError, IngestFacts, VersionFacts
from courier_tf.workdir.stages import BY_NAME, CLUSTER
from tests.stage_facts import EXAMPLES, example


@pytest.mark.parametrize("facts", EXAMPLES, ids=lambda facts: type(facts).__name__)
def test_facts_are_read_as_they_were_written(facts):
    assert type(facts).from_json(json.loads(json.dumps(facts.to_json()))) == facts


def test_every_kind_of_facts_belongs_to_a_stage_and_has_an_example():
    assert {stage.facts for stage in BY_NAME.values()} == {type(facts) for facts in EXAMPLES}
    assert set(Facts.__subclasses__()) == {type(facts) for facts in EXAMPLES}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"image_size": "16"}, "image_size='16': str is not an instance of int"),
        ({"item_columns": ["category", 7]}, r"item_columns=\('category', 7\): item 1"),
        ({"counts": {"items": None}}, "counts="),
        ({"colour": "red"}, "the facts have the unknown field colour"),
    ],
)
def test_a_fact_of_another_type_is_refused_by_name(change, message):
    with pytest.raises(FactsError, match=message):
        IngestFacts.from_json({**example(IngestFacts).to_json(), **change})


def test_a_missing_fact_is_refused_by_name():
    values = example(ClusterFacts).to_json()
    del values["levels"], values["ids_kept"]  # The second has a default.
    with pytest.raises(FactsError, match="the facts lack field levels"):
        ClusterFacts.from_json(values)
    with pytest.raises(FactsError, match="must be a JSON object, but are 7"):
        VersionFacts.from_json(7)


def test_what_json_cannot_hold_is_refused_when_it_is_written():
    with pytest.raises(FactsError, match="int64"):
        example(ClusterFacts, levels=np.int64(2)).to_json()


def test_a_stage_survives_copies_and_pickles():
    for stage in (copy.deepcopy(CLUSTER), pickle.loads(pickle.dumps(CLUSTER))):
        assert stage == "cluster" and stage.facts is ClusterFacts
