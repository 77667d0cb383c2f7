"""What a user can mend ends in one line: signals, full and read-only disks, files where folders are needed."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from courier_tf.commands import program
from courier_tf.commands.chain_commands import Cluster
from courier_tf.commands.faults import explain
from courier_tf.interruption import INTERRUPTED
from courier_tf.settings import SettingsError


def courier(*words, timeout=120):
    """Runs the program; returns its code and the lines of stderr."""
    command = [sys.executable, "-m", "courier_tf", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    return done.returncode, done.stderr.splitlines()


@pytest.fixture
def disk(tmp_path):
    """`disk(options)`: a folder with a file system of its own, such as a full one."""
    mounted = []

    def mount(options):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a file system")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


SHOP = ["--items", "60", "--users", "5", "--days", "3", "--page-views", "9", "--page-size", "4", "--photo-size", "64"]


def test_a_full_disk(disk):
    folder = disk("size=64k")
    code, lines = courier("shop", folder / "shop", *SHOP)
    assert code == 1 and len(lines) == 1
    assert lines[0].startswith(f"courier: {folder}") and "the disk is full: free some space" in lines[0]
    code, lines = courier("cluster", "--workdir", folder / "w")
    assert code == 1 and len(lines) == 1 and "the disk is full" in lines[0]


def test_a_read_only_folder(disk):
    folder = disk("ro")
    code, lines = courier("cluster", "--workdir", folder / "w")
    assert code == 1 and len(lines) == 1
    assert lines[0].startswith(f"courier: {folder}") and "the file system is read-only: choose" in lines[0]


def test_a_folder_in_the_place_of_a_file_and_the_other_way_round(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    cases = {
        "a part of this path is a file": ["cluster", "--workdir", file / "w"],
        "it is a file where a folder is needed": ["cluster", "--workdir", file],
        "is a file: name the folder": ["ingest", "--workdir", tmp_path / "w", "--raw", file],
        "is a file, and a shop needs a folder": ["shop", file],
    }
    (tmp_path / "settings.json").mkdir()
    cases["it is a folder where a file is needed"] = ["cluster", "--workdir", tmp_path]
    for answer, words in cases.items():
        with pytest.raises(program.ProgramExit, match=answer):
            program.main([str(word) for word in words])
        printed = capsys.readouterr().err
        assert printed.startswith("courier: ") and printed.count("\n") == 1 and str(tmp_path) in printed


def test_what_libraries_say_of_a_full_disk(tmp_path):
    import tensorflow as tf

    command = Cluster(workdir=tmp_path / "w")
    full = f"{tmp_path / 'w'}: the disk is full: free some space, then the same command goes on"
    try:
        raise RuntimeError("worker failed: [Errno 28] No space left on device [while running 'Write']")
    except RuntimeError as beam:
        assert explain(beam, command) == full
    assert explain(tf.errors.ResourceExhaustedError(None, None, "x.index; No space left on device"), command) == full
    assert explain(OSError("4096 requested and 100 written"), command) == full  # NumPy.
    read_only = explain(tf.errors.UnknownError(None, None, "x; Read-only file system"), command)
    assert read_only == f"{tmp_path / 'w'}: the file system is read-only: choose another place"
    try:
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded", str(tmp_path / "w" / "x"))
        except OSError as cause:
            raise KeyError("x") from cause
    except KeyError as error:
        assert "your quota" in explain(error, command)


def test_bugs_keep_their_traceback(tmp_path):
    command = Cluster(workdir=tmp_path / "w")
    assert explain(SettingsError("a reason"), command) == "a reason"
    assert explain(KeyError("x"), command) is None
    assert explain(ValueError("x"), command) is None
    missing = OSError(errno.ENOENT, "No such file or directory", "/usr/lib/courier/missing")
    assert explain(missing, command) is None
    theirs = OSError(errno.ENOENT, "No such file or directory", str(tmp_path / "w" / "embed" / "x.parquet"))
    assert explain(theirs, command) == f"{theirs.filename}: it does not exist, or was removed meanwhile"


def signalled(code, number, again=False):
    """Runs Python code until it has printed a line, and sends it a signal; returns the exit code and stderr."""
    head = "from courier_tf.interruption import stopped_in_one_line\nimport time\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.send_signal(number)
    if again:
        time.sleep(0.5)
        process.send_signal(number)
    _, printed = process.communicate(timeout=30)
    return process.returncode, printed


LINE = f"courier: {INTERRUPTED}\n"
WAIT = "with stopped_in_one_line() as watch:\n watch()\n print(flush=True)\n "


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_in_one_line(number, code):
    assert signalled(WAIT + "time.sleep(60)", number) == (code, LINE)


@pytest.mark.parametrize(
    "body",
    [
        "try:\n  time.sleep(60)\n except BaseException: raise ImportError('as of a library that was being imported')",
        "import threading; threading.Thread(target=time.sleep, args=[60]).start(); time.sleep(60)",
    ],
    ids=["another error", "a thread that goes on"],
)
def test_an_interruption_that_looks_like_something_else(body):
    assert signalled(WAIT + body, signal.SIGINT) == (130, LINE)


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("watch", ["watch()", "pass"])
def test_an_import_that_prints_the_interruption_or_swallows_it(tmp_path, number, code, watch):
    """As NumPy's `import_array` in extensions does; before the watch has begun, too."""
    (tmp_path / "extension.py").write_text(
        "import time, traceback\n"
        "try:\n  print(flush=True)\n  time.sleep(60)\n"
        "except BaseException: traceback.print_exc()\n"
        "time.sleep(60)\n"
    )
    body = f"with stopped_in_one_line() as watch:\n {watch}\n import sys\n sys.path.insert(0, {str(tmp_path)!r})\n "
    assert signalled(body + "import extension", number) == (code, LINE)


def test_an_import_of_the_program_itself_is_left_in_one_line():
    """The line is printed before the module that formats it has been imported."""
    body = "with stopped_in_one_line():\n import os, signal, sys\n class Finder:\n  def find_spec(*_):\n   "
    body += "if 'courier_tf.process' in sys.modules: print(flush=True); os.kill(os.getpid(), signal.SIGINT)\n"
    body += " sys.meta_path.insert(0, Finder)\n import courier_tf.process"
    assert signalled(body, 0) == (130, LINE)


def test_an_end_by_a_handler_of_its_own():
    """As that of an experiment, which ends its processes."""
    body = "import signal, sys; signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))\n"
    assert signalled(WAIT.replace(" print", f" {body} print") + "time.sleep(60)", signal.SIGTERM) == (143, LINE)


def test_what_swallows_an_interruption_ends_at_the_second():
    body = "while True:\n  try: time.sleep(60)\n  except BaseException: pass"
    assert signalled(WAIT + body, signal.SIGINT, again=True) == (130, LINE)


def test_a_computation_that_does_not_come_back_ends_in_time():
    """An extension that holds the main thread: the handler in Python cannot run."""
    body = "import ctypes; ctypes.CDLL(None).usleep(60_000_000)"
    short = "import courier_tf.interruption as i; i.GRACE_SECONDS = 0.3\n"
    assert signalled(short + WAIT + body, signal.SIGINT) == (130, LINE)


def test_code_that_handles_signals_keeps_its_own_way():
    body = "import signal; signal.signal(signal.SIGINT, lambda *_: None)\n"
    short = "import courier_tf.interruption as i; i.GRACE_SECONDS = 0.1\n"
    code = short + WAIT.replace(" print", f" {body} print") + "time.sleep(1)"
    assert signalled(code, signal.SIGINT) == (0, "")


@pytest.mark.parametrize("seconds", [0.4, 2.0, 6.0])
def test_a_run_that_is_interrupted_anywhere(tmp_path, seconds):
    """While it imports, while Beam starts, while Beam works."""
    words = ["run", "--raw", str(tmp_path / "shop"), "--workdir", str(tmp_path / "w"), "--preset", "tiny"]
    assert courier("shop", tmp_path / "shop", *SHOP)[0] == 0
    process = subprocess.Popen([sys.executable, "-m", "courier_tf", *words], stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=30)
        assert (process.returncode, printed) == (130, LINE)


def test_a_reader_that_has_seen_enough():
    command = f"{sys.executable} -m courier_tf run --help-all | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")
