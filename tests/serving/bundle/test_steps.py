"""The steps of a roll-out: what stands in models.config next."""

import pytest
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.bundle.replicas import Replica
from serving.bundle.steps import next_step, step_of_its_own
from tests.serving.bundle.configurations import ONE, TWO, config


def replica(loaded, labels, loading=()):
    """What a replica of one model has."""
    return Replica({"m": dict.fromkeys(loaded, True) | dict.fromkeys(loading, False)}, {"m": labels}, {"m": {}})


def step_of(target, now, *states, **options):
    """The next step as (versions, labels)."""
    step = next_step(config(*target), config(*now), dict(enumerate(states)), **options).model_config_list.config[0]
    return list(step.model_version_policy.specific.versions), dict(step.version_labels)


@pytest.mark.parametrize(
    ("target", "now", "loaded", "labels", "step"),
    [
        (([1], {"canary": 1}), ([], {}), set(), {}, ([1], {"canary": 1})),  # Nothing is in use yet.
        (([1, 2], TWO), ([1], ONE), {1}, ONE, ([1, 2], ONE)),  # The canary has to wait,
        (([1, 2], TWO), ([1, 2], ONE), {1, 2}, ONE, ([1, 2], TWO)),  # and does not any more.
        # A version is kept for as long as a label has not left it.
        (([2, 3], {"stable": 3}), ([1, 2], {"stable": 1}), {1, 2}, {"stable": 1}, ([1, 2, 3], {"stable": 1})),
        (([1, 2], TWO), ([1], {"stable": 1}), {1}, {"stable": 1}, ([1, 2], ONE)),  # A new label waits, too.
        # Or the server is about to start with it.
        (([1, 2], TWO), ([1, 2], TWO), set(), {}, ([1, 2], TWO)),
        # The next day, another version: the label that the server has is not the one in the file.
        (([1, 3], {"stable": 1, "canary": 3}), ([1, 2], TWO), {1}, ONE, ([1, 3], ONE)),
    ],
)
def test_a_step(target, now, loaded, labels, step):
    assert step_of(target, now, replica(loaded, labels)) == step
    # A second replica that has the same changes nothing.
    assert step_of(target, now, replica(loaded, labels), replica(loaded, labels)) == step


def test_a_file_that_a_replica_refuses():
    """The file moves a label to a version that the replica has not: it refused the file, and would again."""
    behind = replica({1}, ONE)
    # No label is taken back from replicas that are not named: this one gets a configuration of its own,
    assert step_of(([1, 2], TWO), ([1, 2], TWO), behind) == ([1, 2], TWO)
    assert step_of_its_own(config([1, 2], TWO), behind) == config([1, 2], ONE)
    # unless it takes none.
    assert step_of(([1, 2], TWO), ([1, 2], TWO), behind, by_file_alone=True) == ([1, 2], ONE)


def test_labels_wait_for_the_last_replica():
    ahead, behind = replica({1, 2}, ONE), replica({1}, ONE, loading={2})
    assert step_of(([1, 2], TWO), ([1, 2], ONE), ahead, behind) == ([1, 2], ONE)
    assert step_of(([1, 2], TWO), ([1, 2], ONE), ahead, Replica(silence="UNAVAILABLE")) == ([1, 2], ONE)
    assert step_of(([1, 2], TWO), ([1, 2], ONE), ahead, ahead) == ([1, 2], TWO)


def test_a_replica_that_was_left_behind_takes_no_label_back():
    ahead, behind = replica({1, 2}, TWO), replica({1}, ONE)
    for options in ({}, {"by_file_alone": True}):
        assert step_of(([1, 2], TWO), ([1, 2], TWO), ahead, behind, **options) == ([1, 2], TWO)
    assert step_of_its_own(config([1, 2], TWO), ahead) is None
    # The next version comes while a replica is still behind: what it answers with stays loaded.
    step = ([1, 2, 3], {"stable": 2, "canary": 2})
    assert step_of(([2, 3], {"stable": 2, "canary": 3}), ([1, 2], step[1]), replica({1, 2}, step[1]), behind) == step
    assert step_of_its_own(config(*step), behind) == config([1, 2, 3], ONE)


def test_replicas_that_disagree_go_on_from_the_newest():
    """The file names a version that is not wanted any more, and that no replica took."""
    step = step_of(
        ([1, 4], {"canary": 4}), ([3], {"canary": 3}), replica({1}, {"canary": 1}), replica({2}, {"canary": 2})
    )
    assert step == ([1, 2, 4], {"canary": 2})


def test_labels_wait_where_versions_are_still_being_loaded():
    """A server that starts is asked before its stable version is there: that label does not go to the canary."""
    starting = replica({2}, {"canary": 2}, loading={1})
    assert step_of(([1, 2], TWO), ([1, 2], TWO), starting) == ([1, 2], TWO)
    assert step_of(([1, 2, 3], {"stable": 3}), ([1, 2], TWO), starting) == ([1, 2, 3], {"stable": 1})


def test_labels_of_all_models_move_together():
    """Else a ranker would be asked with cluster IDs of another encoder, for good where one model never loads."""

    def both(stable, versions):
        made = ModelServerConfig()
        for name in ("m", "n"):
            made.model_config_list.config.add().CopyFrom(
                config(versions, {"stable": stable}).model_config_list.config[0]
            )
            made.model_config_list.config[-1].name = name
        return made

    labels = {"m": {"stable": 1}, "n": {"stable": 1}}
    half = {"a": Replica({"m": {1: True, 2: True}, "n": {1: True}}, labels)}
    whole = {"a": Replica({"m": {1: True, 2: True}, "n": {1: True, 2: True}}, labels)}
    assert next_step(both(2, [2]), both(1, [1]), half) == both(1, [1, 2])
    assert next_step(both(2, [2]), both(1, [1, 2]), whole) == both(2, [2])
