"""Rot: a byte of a finished workdir changes, while size and time of its file stay, as on a faulty disk.

Whatever the file is, a command gives the right result, or ends in one line that names the file and the way out.
"""

import contextlib
import logging
import os
import re
import shutil
from pathlib import Path

import pytest

from courier_tf.chain.chain import Chain
from courier_tf.commands import program
from courier_tf.workdir import artefacts, checksums
from courier_tf.workdir.artefacts import ARTEFACT_FILE
from courier_tf.workdir.stages import BY_NAME, CLUSTER, EMBED, INGEST, PRETRAIN, RANK, SUPERVISED
from courier_tf.workdir.stages import EXPORT as EXPORTED

MODEL = "models/ctr_ranker/1"
EMBED_AGAIN = ("embed", "--force", "embed")
CLUSTER_AGAIN = ("cluster", "--force", "cluster")
RANK_AGAIN = ("rank", "--force", "rank")
PREDICT = ("predict", "--user", "u1", "--candidates", "i0000003", "--history", "i0000005")
INTERESTS = ("interests",)
SIMILAR = ("similar", "--items", "i0000003", "--number", "3")
EXPORT = ("export",)


@pytest.fixture(scope="module")
def rotten(finished, tmp_path_factory):
    """A copy of a finished workdir, with its settings. `flipped` puts right what it has damaged."""
    _, chain = finished
    workdir = tmp_path_factory.mktemp("rot") / "work"
    shutil.copytree(chain.workdir, workdir, symlinks=True)
    chain = Chain(workdir, chain.settings)
    chain.write_settings()
    return chain


@contextlib.contextmanager
def flipped(file, bits=0xFF, behind=b""):
    """Flips bits of the byte in the middle of a file, or behind some words, as long as it is entered.

    What the description then remembers of the damage is forgotten, too, so that the next one is found by itself.
    """
    description = next(parent / ARTEFACT_FILE for parent in file.parents if (parent / ARTEFACT_FILE).exists())
    content, status, described = file.read_bytes(), file.stat(), description.read_bytes()

    def write(changed):
        file.write_bytes(changed)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    changed = bytearray(content)
    changed[content.index(behind) + len(behind) if behind else len(changed) // 2] ^= bits
    write(bytes(changed))
    try:
        yield
    finally:
        description.write_bytes(described)
        write(content)


def refusal(chain, words):
    """The message of a command that fails as it should; None where it has ended well."""
    try:
        program.main([words[0], "--workdir", str(chain.workdir), *words[1:]])
    except program.ProgramExit as ended:
        assert ended.code == 1
        return str(ended)
    return None


def require_named(message, file):
    assert message is not None, "used without a word"
    assert "\n" not in message and message.count("courier") >= 1
    assert re.search(r"\. Run 'courier (\w+)' again\.$", message)
    if file.name == ARTEFACT_FILE and " is not an artefact description: " in message:
        assert message.startswith(str(file))
        return
    place, _, name = re.match(r"(\S+) is damaged: the (content of the )?file (\S+) ", message).groups()
    assert Path(place) / name == file


#: File below a workdir, and a command that uses it.
USES = [
    (f"{MODEL}/saved_model.pb", PREDICT),
    (f"{MODEL}/variables/variables.data-00000-of-00001", PREDICT),
    (f"{MODEL}/artefact.json", PREDICT),
    ("ingest/items/items-00000-of-00002.tfrecord", EMBED_AGAIN),
    ("ingest/impressions/valid-00000-of-00002.tfrecord", INTERESTS),
    ("ingest/artefact.json", INTERESTS),
    ("pretrain/embedder/saved_model.pb", EMBED_AGAIN),
    ("pretrain/embedder/variables/variables.data-00000-of-00001", EMBED_AGAIN),
    ("pretrain/encoder/encoder.weights.h5", EMBED_AGAIN),  # It stands for what nobody can read wrong but silently.
    ("embed/items/embeddings-00001-of-00002.parquet", CLUSTER_AGAIN),
    ("embed/items/embeddings-00001-of-00002.parquet", SIMILAR),
    ("cluster/codebook.npy", INTERESTS),
    ("cluster/codebook.npy", RANK_AGAIN),
    ("cluster/item_clusters.parquet", RANK_AGAIN),
    ("rank/cluster_id/start_0/ranker.json", EXPORT),
    ("rank/cluster_id/valid.npy", EXPORT),
]


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize(("file", "words"), USES, ids=[f"{file}-{words[0]}" for file, words in USES])
def test_a_rotten_file_is_named_with_the_way_out(rotten, file, words, large):
    """Also where files are too large to be read through by a command that only looks whether a stage is current."""
    file = rotten.workdir / file
    token = artefacts._read_up_to.set(0 if large else checksums.SMALL)
    try:
        with flipped(file, 0x01, b'"fingerprint": "') if file.name == ARTEFACT_FILE else flipped(file):
            message = refusal(rotten, words)
    finally:
        artefacts._read_up_to.reset(token)
    require_named(message, file)


def test_no_stage_is_made_from_large_rotten_files(rotten):
    """As supervised pre-training starts the training of the encoder."""
    start = artefacts.read(rotten.workdir / SUPERVISED, SUPERVISED)
    token = artefacts._read_up_to.set(0)
    try:
        with flipped(start.path / "encoder/encoder.weights.h5"):
            artefacts.read(start.path, SUPERVISED)
            with pytest.raises(
                artefacts.DamagedArtefactError, match=r"weights\.h5 has changed. Run 'courier pretrain'"
            ):
                rotten.local(start)
    finally:
        artefacts._read_up_to.reset(token)


def test_the_way_out_leads_out(finished, rotten, caplog):
    """The command that the message names would take the stage for unchanged, as size and time are."""
    caplog.set_level(logging.INFO)
    shop, _ = finished
    file = rotten.workdir / "ingest/items/items-00000-of-00002.tfrecord"
    before = artefacts.read(rotten.workdir / INGEST, INGEST).fingerprint
    with flipped(file):
        require_named(refusal(rotten, EMBED_AGAIN), file)
        assert refusal(rotten, ("ingest", "--raw", str(shop))) is None
        assert "[ingest] is made again" in caplog.text and "the content of the file items" in caplog.text
        assert artefacts.read(rotten.workdir / INGEST, INGEST).fingerprint == before
        whole = file.read_bytes()
    assert file.read_bytes() == whole
    assert refusal(rotten, INTERESTS) is None


def test_an_error_that_comes_from_no_file_goes_on(rotten, monkeypatch):
    def fail(*_):
        raise ValueError("a fault of the program")

    monkeypatch.setattr("courier_tf.ranking.user_interests.last_clicks", fail)
    with pytest.raises(ValueError, match=r"^a fault of the program$"):
        refusal(rotten, INTERESTS)


@pytest.mark.slow  # Minutes: every file, with each command that reads it.
def test_no_rotten_file_is_used_without_a_word(rotten):
    uses = [
        (INGEST, INTERESTS, ""),
        (INGEST, EMBED_AGAIN, "items"),
        (PRETRAIN, EMBED_AGAIN, ""),
        (EMBED, SIMILAR, ""),
        (EMBED, CLUSTER_AGAIN, ""),
        (CLUSTER, INTERESTS, ""),
        (RANK, EXPORT, ""),
        (MODEL, PREDICT, ""),
    ]
    made = {stage: artefacts.read(rotten.workdir / stage, stage).fingerprint for stage in (EMBED, CLUSTER)}
    for folder, words, prefix in uses:
        files = artefacts.read(rotten.workdir / folder, BY_NAME.get(folder, EXPORTED)).files
        sizes = {name: state.size for name, state in files.items()} | {ARTEFACT_FILE: 1}
        for name in [name for name, size in sizes.items() if size and name.startswith(prefix)]:
            for bits in (0xFF, 0x01):
                file = rotten.workdir / folder / name
                with flipped(file, bits):
                    message = refusal(rotten, words)
                if message is not None:
                    require_named(message, file)
                # What nobody has read, or the time of a file, which is then found right.
                elif file.suffix != ".tfrecord" and name != ARTEFACT_FILE:
                    pytest.fail(f"{file} is used by {words[0]} without a word")
    assert made == {stage: artefacts.read(rotten.workdir / stage, stage).fingerprint for stage in made}
