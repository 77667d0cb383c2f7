"""Workers that would make something else than the chief are refused, on all of them, before the first step."""

import json

import pytest

from courier_tf.chain.workplace import Workplace
from courier_tf.settings.presets import PRESETS
from courier_tf.training import TrainingError
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workers.places import Places
from courier_tf.workers.workers import Workers


class Told(Workers):
    """The chief of three, who is told what the others would say."""

    def __init__(self, *others):
        super().__init__(Places(("a:1", "b:1", "c:1")))
        self.others = others

    def exchanged(self, value):
        return json.loads(json.dumps([value, *[{**value, **other} for other in self.others]]))


@pytest.mark.parametrize(
    "other, told",
    [
        ({"version": "0.13.0"}, "version='0.13.0' in place of '0.14.0'"),
        ({"pretrain_steps": 4}, "pretrain_steps=4 in place of 3"),
        ({"inputs": {"ingest": "of yesterday"}}, "of yesterday"),
        ({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}, "a=1 in place of None, b=2 in place of None, .* and 2 more"),
    ],
)
def test_what_differs_is_named_with_its_worker(other, told):
    facts = {"version": "0.14.0", "pretrain_steps": 3, "inputs": {"ingest": "of today"}}
    Told({}, {}).require_same(facts)
    with pytest.raises(TrainingError, match=rf"worker 2 \(c:1\) does not fit worker 0 \(a:1\): .*{told}"):
        Told({}, other).require_same(facts)


@pytest.mark.parametrize("other", [{"inputs": {"ingest": "of other data"}}, {"code": "other"}, {"learning_rate": 0.2}])
def test_a_stage_is_begun_by_workers_with_the_same_data_code_and_settings(tmp_path, other):
    made_by = MadeBy("pretrain", {"learning_rate": 0.1}, {"ingest": "of the data"})
    workplace = Workplace(tmp_path, PRESETS["tiny"], workers=Told({}, other))
    with pytest.raises(TrainingError, match="worker 2"):
        workplace.unless_current(tmp_path / "pretrain", made_by, lambda _: pytest.fail("it has begun"), together=True)
    assert not (tmp_path / "pretrain").exists()
