"""What a program of this project does first. A library import never does: it changes the whole process."""

import ctypes
import logging
import os
import sys
import warnings

COLUMNS_OF_A_LOG = "140"
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # Of glibc's malloc.h.


def prepare() -> None:
    """To be called before anything else is imported: NumPy already starts threads, each with its own pool of memory."""
    _silence()
    _keep_freed_memory()
    _share_gpus()
    if not sys.stdout.isatty():  # Else rich folds the tables of a log to the 80 columns of a narrow terminal.
        os.environ.setdefault("COLUMNS", COLUMNS_OF_A_LOG)


def _share_gpus() -> None:
    """Before TensorFlow looks at them; what the user has set counts."""
    # Else the first process takes all the memory, and runs of an experiment or Beam's workers find none.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Else float32 is multiplied with the ten bits of TF32, and a server on CPUs gives other cluster IDs. Mixed
    # precision, which says what it does, is as fast.
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


def _silence() -> None:
    """Libraries' warnings that no user can act on, silenced one by one."""
    # KerasCV's Backbone looks through its own attributes, among them deprecated ones, whenever it is saved.
    warnings.filterwarnings("ignore", message=r".*(state_updates|layer\.updates).*will be removed")
    _drop(
        "tensorflow",
        # Rankers and encoders are saved by our own config and weights; Keras's own format is not used.
        "non-serializable",
        "Skipping full serial",
        # SavedModels by graph and session, as a C++ server has them, are meant.
        "saved_model.loader_impl",
    )
    # SavedModels for serving hold no gradients.
    _drop("absl", "unsaved custom gradients")
    # Beam's RunInference asks for the memory in use by a module that it looks for in the wrong place.
    _drop("root", "Resource module is not available")


def _drop(logger: str, *texts: str) -> None:
    """Filters messages of a logger that hold one of the texts."""
    logging.getLogger(logger).addFilter(lambda record: not any(text in record.getMessage() for text in texts))


def _keep_freed_memory() -> None:
    """Lets glibc keep freed memory: on CPUs TensorFlow frees each intermediate result and asks for it anew.

    Without this the kernel clears fresh pages in every operation, which costs up to half of a training step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Missing outside glibc: then nothing changes.
    if mallopt:
        mallopt(M_MMAP_MAX, 0)  # Large blocks come from the heap too.
        mallopt(M_TRIM_THRESHOLD, -1)  # The heap never shrinks.
        mallopt(M_ARENA_MAX, 1)  # One pool for all threads: what one has freed, another can take.
