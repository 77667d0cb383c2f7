"""The commands of the pages run, in their order, on a small shop; so does their Python."""

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from courier_tf.commands import program
from courier_tf.ranking.visual_features.similarity import largest_and_mean
from tests.test_documents import ROOT, commands_in

#: Pages whose commands run here.
PAGES = (
    "docs/own-data.md",
    "docs/training.md",
    "docs/in-another-model.md",
    "docs/evaluation.md",
    "docs/every-day.md",
)
#: How a command begins -> the test that runs such a one, as it needs a server, a log, several processes or other data.
ELSEWHERE = {
    "courier demo ": "tests/demo/conftest.py",
    "courier experiment ": "tests/experiment/test_run_grid.py",
    "courier serve ": "tests/commands/test_serve.py",
    "courier load-test ": "tests/commands/test_load_test.py",
    "courier export --workdir W --roll-back": "tests/exporting/test_promotion.py",
    "courier export --workdir W --withdraw": "tests/exporting/test_promotion.py",
    "courier export --workdir W --promote --server": "tests/serving/bundle/test_replicas.py",
    "courier canary ": "tests/monitoring/test_canary.py",
    "courier evaluate-policy ": "tests/monitoring/test_evaluate_policy.py",
    "courier skew ": "tests/monitoring/test_skew.py",
    "courier ingest --raw DIR --workdir W --direct_running_mode": "tests/beam_jobs/test_engines.py",
    "courier check TARGET --follow-links": "tests/beam_jobs/importers/test_import.py",
    "courier run --raw TARGET --workdir W --follow-links": "tests/beam_jobs/importers/test_import.py",
    "courier import ": "tests/beam_jobs/importers/test_import.py",
    "courier pretrain --workdir W1 --trainable head": "tests/chain/test_heads.py",
    "courier pretrain --workdir W2 --trainable all": "tests/pretrain/test_fit.py",
    "courier pretrain --workdir W --replicas": "tests/chain/test_replicas.py",
    "courier rank --workdir W --rank-replicas": "tests/chain/test_replicas.py",
    "courier pretrain --workdir W --workers": "tests/chain/test_workers.py",
}
#: The same of what needs a cloud or a cluster: nothing runs it, and tests look at the request alone.
CLOUD = ("bigquery://", "FlinkRunner", "SparkRunner")


def _items(workdir: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(workdir / "embed/items").to_pydict()
    pairs = zip(table["item_id"], table["embedding"], strict=True)
    return {item: np.array(vector) for item, vector in pairs if vector is not None}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_run(page, finished, monkeypatch, capsys):
    """The workdir holds a finished run, so what is asked for is what is new: other clusters, rankers, an export."""
    shop, chain = finished
    first, second, *_ = sorted(_items(chain.workdir))
    monkeypatch.chdir(shop.parent)
    values = {"DIR": str(shop), "W": str(chain.workdir), "U": "u1", "200": "6", "1000": "6"}
    commands = [words for words in commands_in(page) if not words.startswith(tuple(ELSEWHERE))]
    assert commands
    for words in commands:
        words = words.replace("ITEM ITEM", f"{first} {second}").replace("ITEM", first)
        # A chain of three steps is too bad to be promoted, and its random clusters are made anew on another day.
        words = words.replace("--promote", "--promote --accept auc calibration collapse --auc-tolerance 1")
        words = words.replace("W/", f"{chain.workdir}/")
        program.main([values.get(word, word) for word in shlex.split(words)[1:]])
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("page", ["README.md", "serving/README.md", *sorted(map(str, Path("docs").glob("*.md")))])
def test_every_command_of_a_page_is_run_by_a_test(page):
    """Here, elsewhere, or as a command of another page; all but those that need a cloud."""
    run_here = {words for of_page in PAGES for words in commands_in(of_page)} | {"courier check DIR"}
    for words in commands_in(page):
        elsewhere = [test for start, test in ELSEWHERE.items() if words.startswith(start)]
        assert all((ROOT / test).is_file() for test in elsewhere)
        assert elsewhere or words in run_here or any(word in words for word in CLOUD), words


def test_similarity_in_another_model_is_that_of_our_rankers(finished):
    """The function of the page against the one that `simscore` calls, for candidates and histories drawn at random."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/in-another-model.md").read_text(), re.DOTALL)[0]
    workdir, rng = finished[1].workdir, np.random.default_rng(1)
    page: dict = {}
    exec(code.replace('Path("W")', f"Path({str(workdir)!r})"), page)
    embeddings = _items(workdir)
    for _ in range(5):
        candidate, *history = rng.choice(sorted(embeddings), 5, replace=False)
        cosines = np.array([embeddings[item] @ embeddings[candidate] for item in history])
        deviations = (cosines - page["usual"]) / page["deviation"]
        ours = largest_and_mean(tf.constant(deviations[None, None], tf.float32), tf.ones([1, 1, 4], tf.bool))[0, 0]
        assert page["similarity"](candidate, [*history, "unknown"])[:2] == pytest.approx(
            ours.numpy().tolist(), rel=1e-4
        )
    assert page["similarity"](candidate, ["unknown"]) == (0, 0, 0)
