"""What `courier doctor` says of this machine, and of machines on which something is missing."""

import importlib.metadata
import os
import re
import sys

import pytest

from courier_tf.commands import doctor, program


@pytest.fixture
def quick(monkeypatch):
    """It measures for a moment only, and other tests that take up memory at the same time do not count."""
    monkeypatch.setattr(doctor, "SECONDS", 0.02)
    monkeypatch.setattr(doctor, "available_memory", lambda: 16 * 2**30)


def test_a_sound_machine(quick, tmp_path, capsys):
    program.main(["doctor", "--workdir", str(tmp_path / "not" / "there")])
    shown = capsys.readouterr().out
    for about in ("courier", "packages", "native ops", "processors", "memory", "disk", "GPU", "speed"):
        assert re.search(rf"^(ok|note)\s+{about} ", shown, re.MULTILINE), about
    assert f"tensorflow {importlib.metadata.version('tensorflow')}" in shown
    assert f"{len(os.sched_getaffinity(0))} cores" in shown
    assert "problem" not in shown


def test_packages_that_are_missing_or_of_another_version(monkeypatch, capsys, quick, tmp_path):
    requires = [
        "numpy>=99",
        "no-such-package>=1",
        "pandas",
        "torch; extra == 'benchmark'",
        "colorama; python_version<'3'",
    ]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: requires)
    with pytest.raises(SystemExit) as left:
        program.main(["doctor", "--workdir", str(tmp_path)])
    problems = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem")]
    assert left.value.code == 1 and "2 problems" in str(left.value)
    assert len(problems) == 2
    assert re.search(r"numpy is \d.*>=99 is needed: make install", problems[0])
    assert "no-such-package is not installed: pip install 'no-such-package>=1'" in problems[1]


def test_native_ops_that_do_not_load(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_io", None)
    scann, other = doctor.native_ops()
    assert scann.kind == "ok" and other.kind == "note" and "Pillow" in other.text


def test_processors_without_amx(tmp_path):
    (tmp_path / "cpuinfo").write_text("flags\t\t: fpu avx2 avx512f\n")
    first, second, *_ = doctor.processors(tmp_path / "cpuinfo")
    assert "AVX2, AVX-512" in first.text and "AMX" not in first.text
    assert second.kind == "note" and "mixed_bfloat16" in second.text
    for flag, name in (("avx512_bf16", "AVX-512 BF16"), ("amx_bf16", "AMX")):
        (tmp_path / "cpuinfo").write_text(f"flags\t\t: fpu avx2 avx512f {flag}\n")
        first, *notes = doctor.processors(tmp_path / "cpuinfo")
        assert name in first.text and not any("mixed_bfloat16" in note.text for note in notes)


def test_little_memory_and_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "available_memory", lambda: 3 * 2**30)
    (finding,) = doctor.memory()
    assert finding.kind == "problem" and finding.text.startswith("3.0 GiB are available")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2**30}))
    assert {finding.kind for finding in doctor.disk(tmp_path)} == {"note"}


def test_a_gpu_that_tensorflow_does_not_see(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    (finding,) = doctor.gpus()
    assert finding.kind == "note" and "tensorflow[and-cuda]" in finding.text


def test_without_weights(monkeypatch):
    monkeypatch.setattr("courier_tf.backbone.pretrained_packages.package_folder", lambda _: None)
    (finding,) = doctor.weights()
    assert finding.kind == "note" and "pretrained" in finding.text


def test_speeds_are_per_second(monkeypatch):
    """By a clock of our own: 4 calls of a quarter of a second each."""
    times = iter(range(100))
    monkeypatch.setattr(doctor.time, "perf_counter", lambda: next(times) / 4)
    monkeypatch.setattr(doctor, "SECONDS", 1.1)
    assert doctor._rate(lambda: None) == pytest.approx(4 / 1.25)
