"""Which code can change a result: all that is imported, and of it only what is more than a comment."""

import sys

import pytest

from courier_tf.workdir import artefacts, provenance, source
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import BY_NAME, CLUSTER, EMBED, INGEST, PRETRAIN, RANK, SUPERVISED
from tests.stage_facts import example

FILES = {
    "__init__.py": "",
    "entry.py": "from toy import direct\n\ndef run():\n    from .later import inside\n    return direct, inside\n",
    "direct.py": "import toy.deep.deeper\nimport json\n",
    "later.py": "inside = 1\n",
    "deep/__init__.py": "x = 1\n",
    "deep/deeper.py": "from .. import constant\n",
    "constant.py": "value = 1\n",
    "apart.py": "from toy import later\n",
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A package of its own; `hashes()` walks from its entry module."""
    for name, text in FILES.items():
        (tmp_path / "toy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "toy" / name).write_text(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(source, "PACKAGES", ("toy",))

    def hashes():
        for cached in (source.code_below, source._read, source._folder_of):
            cached.cache_clear()
        return source.code_below(("toy.entry",))

    yield tmp_path / "toy", hashes
    for cached in (source.code_below, source._read, source._folder_of):
        cached.cache_clear()


def test_all_that_is_imported_counts_also_inside_functions_and_packages_around(toy):
    _, hashes = toy
    assert list(hashes()) == sorted(f"toy/{name}" for name in FILES if name != "apart.py")


@pytest.mark.parametrize(
    "name, text, counts",
    [
        ("later.py", "inside = 2\n", True),
        ("later.py", '"""What it is."""\n\ninside = (1)  # One.\n', False),
        ("constant.py", "value = 1\n__version__ = '9'\n", False),
        ("constant.py", "value = 1\n'''One.'''\n", False),
        ("deep/__init__.py", "x = 2\n", True),
        ("apart.py", "x = 2\n", False),
        ("entry.py", FILES["entry.py"].replace("def run():", "def run():\n    '''Runs.'''"), False),
        ("entry.py", FILES["entry.py"].replace("return direct", "return inside"), True),
        ("direct.py", "import json\n", True),
    ],
)
def test_what_counts_as_a_change(toy, name, text, counts):
    folder, hashes = toy
    before = hashes()
    (folder / name).write_text(text)
    assert (hashes() != before) == counts


def test_the_code_of_the_stages():
    kmeans = {str(stage) for stage in BY_NAME.values() if "courier_tf/clusters/kmeans.py" in source.code_of(stage)}
    assert kmeans == {"cluster"}, "the others see what it makes, not how"
    assert "courier_tf/pretrain/objectives/simclr.py" in source.code_of(PRETRAIN)
    assert "courier_tf/pretrain/objectives/supervised.py" in source.code_of(SUPERVISED)
    assert "courier_tf/pretrain/objectives/simclr.py" not in source.code_of(SUPERVISED), "it makes no difference to it"
    assert "courier_tf/images.py" in source.code_of(INGEST), "it is imported inside packages of the job"
    assert "courier_tf/backbone/swin.py" in source.code_of(PRETRAIN)
    assert "courier_tf/ranking/model.py" in source.code_of(RANK)
    for stage in (INGEST, SUPERVISED, PRETRAIN, EMBED, CLUSTER, RANK):
        assert not any(
            file.startswith(("courier_tf/settings/stages", "courier_tf/chain", "courier_tf/commands", "tests"))
            for file in source.code_of(stage)
        )


def test_a_change_of_the_code_is_told_and_remembered(tmp_path, monkeypatch):
    made_by = MadeBy(CLUSTER, {"clusters": 3}, {"embed": "aa"})
    with artefacts.write_aside(tmp_path / "a", made_by) as draft:
        draft.facts = example(CLUSTER.facts)
    changed = {**made_by.code, "courier_tf/clusters/kmeans.py": "0"}
    monkeypatch.setattr(provenance, "code_of", lambda stage: changed)
    again = MadeBy(CLUSTER, {"clusters": 3}, {"embed": "aa"})
    assert artefacts.why_stale(tmp_path / "a", again) == "courier_tf/clusters/kmeans.py has changed"
    other = MadeBy(CLUSTER, {"clusters": 4}, {"embed": "bb"}, made_by.code)
    assert artefacts.why_stale(tmp_path / "a", other) == "its input 'embed' has changed, clusters is 4, and was 3"
    many = MadeBy(CLUSTER, made_by.settings, made_by.inputs, {f"{number}.py": "0" for number in range(4)})
    assert artefacts.why_stale(tmp_path / "a", many).endswith(f" has changed, and {len(made_by.code) + 1} more")
    assert artefacts.read(tmp_path / "a", CLUSTER).made_by.code == made_by.code
