"""What a program of this project does first. A library import never does: it changes the whole process."""

import ctypes
import logging
import warnings

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # Of glibc's malloc.h.


def prepare() -> None:
    """To be called before TensorFlow starts its threads."""
    _silence()
    _keep_freed_memory()


def _silence() -> None:
    """Libraries' warnings that no user can act on, silenced one by one."""
    # KerasCV's Backbone looks through its own attributes, among them deprecated ones, whenever it is saved.
    warnings.filterwarnings("ignore", message=r".*(state_updates|layer\.updates).*will be removed")
    # Rankers and encoders are saved by our own config and weights; Keras's own format is not used.
    logging.getLogger("tensorflow").addFilter(
        lambda record: not any(text in record.getMessage() for text in ("non-serializable", "Skipping full serial"))
    )


def _keep_freed_memory() -> None:
    """Lets glibc keep freed memory: on CPUs TensorFlow frees each intermediate result and asks for it anew.

    Without this the kernel clears fresh pages in every operation, which costs up to half of a training step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # Missing outside glibc: then nothing changes.
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, 2**31 - 1)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_ARENA_MAX, 1)  # One pool for all threads: what one has freed, another can take.
