"""What runs have in common is made once."""

import itertools
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from courier_tf.chain import encoder_stages
from courier_tf.experiment import store
from courier_tf.experiment.execute import execute
from courier_tf.experiment.run import Run
from courier_tf.experiment.store import SharingChain, commit
from courier_tf.features.files import FeatureFiles
from courier_tf.settings import with_values
from courier_tf.settings.presets import PRESETS
from courier_tf.workdir import artefacts
from courier_tf.workdir.facts import EmbedFacts, RankFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import EMBED, INGEST
from tests.beam_jobs.conftest import Raw, impression_log, photo
from tests.stage_facts import example

TINY = PRESETS["tiny"]


def chain_of(folder: Path, name: str) -> SharingChain:
    return SharingChain(folder / "runs" / name, TINY, store=folder / "stages")


def test_equal_stages_are_made_once_and_others_apart(tmp_path):
    made = []

    def stage(chain, settings):
        made_by = MadeBy("embed", settings, {})

        def make(target):
            made.append(target)
            with artefacts.write_aside(target, made_by) as draft:
                (draft.path / "value").write_text(str(settings))
                draft.facts = example(EmbedFacts)

        chain.workdir.mkdir(parents=True, exist_ok=True)
        chain.unless_current(chain.directory("embed"), made_by, make)
        return artefacts.read(chain.directory(EMBED), EMBED)

    first, second, other = (chain_of(tmp_path, name) for name in "abc")
    artefact = stage(first, {"n": 1})
    assert stage(second, {"n": 1}).fingerprint == artefact.fingerprint and len(made) == 1
    assert stage(other, {"n": 2}).fingerprint != artefact.fingerprint and len(made) == 2
    assert (second.directory("embed") / "value").read_text() == "{'n': 1}"
    assert second.seconds("embed") == first.seconds("embed") >= 0 and first.seconds("rank") is None
    assert second.commit("embed") == commit() and first.commit("rank") is None
    first.directory("features").mkdir()
    for number in (1, 2):  # As sources of features, each in a folder of its own.
        link = first.directory("features") / str(number)
        link.symlink_to(chain_of(tmp_path, "ac"[number - 1]).directory("embed").resolve())
        assert first.seconds("features") >= first.seconds("embed")
    assert first.seconds("features") == pytest.approx(first.seconds("embed") + other.seconds("embed"))
    assert first.commit("features") == commit() and first.seconds("cluster") is None
    stage(second, {"n": 2})  # Other settings in the same workdir.
    assert (second.directory("embed") / "value").read_text() == "{'n': 2}" and len(made) == 2
    alone = chain_of(tmp_path, "alone")
    alone.directory("embed").mkdir(parents=True)
    with pytest.raises(artefacts.ArtefactError, match="outside experiments"):
        stage(alone, {"n": 1})
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(moved)
    assert (moved / "runs" / "a" / "embed" / "value").exists(), "the links are relative"


def test_photos_of_another_run_are_not_computed_again(tmp_path, caplog):
    """As in a grid of several origins: ingests differ, and nearly all photos are the same."""
    caplog.set_level("INFO")
    raw = Raw(tmp_path / "raw")
    raw.write("items", raw.items(8))
    raw.write("events", impression_log(users=3, days=4))
    told = []
    for name, days, forced in (("first", 5, ()), ("second", 4, ()), ("forced", 3, ("ingest", "features"))):
        settings = with_values(TINY, {"image_size": 16, "shards": 1, "history_length": days})
        chain = SharingChain(tmp_path / "runs" / name, settings, store=tmp_path / "stages", force=frozenset(forced))
        chain.ingest(str(raw.folder))
        ingested = artefacts.read(chain.directory(INGEST), INGEST)
        (made,) = encoder_stages._features(chain, ingested, ["pixels"], views=False).values()
        features = FeatureFiles(made)
        vectors = features.read(np.array([b"item1", b"item2"], object))
        told.append((ingested.facts.photos_taken_over, features.facts.photos_taken_over, vectors.tolist()))
        if name == "first":
            (raw.folder / "images/item1.jpg").write_bytes(photo(seed=77))
    (first, second, forced) = told
    assert [numbers[:2] for numbers in told] == [(0, 0), (7, 7), (0, 0)]
    assert second[2] == forced[2] != first[2]


@pytest.mark.slow
def test_seconds_are_those_of_all_attempts_and_of_no_previous_result(tmp_path, monkeypatch):
    clock = itertools.count(0, 5)  # Each attempt takes five seconds.
    monkeypatch.setattr(store, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    chain, made_by = chain_of(tmp_path, "a"), MadeBy("embed", {}, {})
    chain.workdir.mkdir(parents=True)

    def attempt(interrupted=False):
        def make(target):
            with artefacts.write_aside(target, made_by, keep_partial=True) as draft:
                if interrupted:
                    raise KeyboardInterrupt
                draft.facts = example(EmbedFacts)

        chain.unless_current(chain.directory("embed"), made_by, make)
        return chain.seconds("embed")

    with pytest.raises(KeyboardInterrupt):
        attempt(interrupted=True)
    assert attempt() == 10
    shutil.rmtree(chain.directory("embed").resolve())
    assert attempt() == 5


def test_rankers_that_another_run_has_trained_are_found(tmp_path):
    chain = chain_of(tmp_path, "a")
    inputs = {"ingest": "i", "cluster": "c"}
    assert chain.settings.rank.rank_modes[:2] == ("none", "cluster_id")
    made_by = MadeBy("rank", {"rank_modes": ["none", "cluster_id"]}, inputs)
    assert chain.trained(made_by) == {}, "there is no store yet"
    previous = MadeBy("rank", {"rank_modes": ["none", "cluster_id", "simscore"]}, {**inputs, "cluster": "other"})
    with artefacts.write_aside(chain.store / f"rank-{previous.key}", previous) as draft:
        assert chain.trained(made_by) == {}, "it is not finished"
        (draft.path / "none").mkdir()
        draft.facts = example(RankFacts, modes=("none", "cluster_id", "simscore"))
    (chain.store / "rank-broken").mkdir()
    # Cluster IDs of another encoder are other cluster IDs.
    assert chain.trained(made_by) == {"none": chain.store / f"rank-{previous.key}"}


def test_a_run_in_the_folder_of_another_does_not_count_its_stages(tmp_path, monkeypatch):
    """`seconds_rank` of a run that goes no further than its encoder would be those of the previous rankers."""
    chain = chain_of(tmp_path, "a")
    chain.workdir.mkdir(parents=True)
    (tmp_path / "stages" / "rank-1").mkdir(parents=True)
    (tmp_path / "stages" / "rank-1.made.json").write_text('{"seconds": 9.0}')
    chain.directory("rank").symlink_to(tmp_path / "stages" / "rank-1")
    assert chain.seconds("rank") == 9

    def ingest(begun, raw):
        assert begun.seconds("rank") is None and begun.workdir == chain.workdir
        raise InterruptedError

    monkeypatch.setattr(SharingChain, "ingest", ingest)
    with pytest.raises(InterruptedError):
        execute(Run("default", 0, chain.workdir, chain.store, "raw", False, TINY, "pretrain"))
