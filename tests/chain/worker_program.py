"""`courier` with plain SGD and deterministic ops: `python -m tests.chain.worker_program DEVICES COMMAND ...`.

With SGD and one order of sums, trainings can be compared number by number. Adam divides by the size of a gradient, and
makes the rounding of a gradient that is nearly 0 as large as any other. DEVICES logical CPUs stand in for GPUs. Words
after `--then` are a further command: those of the first, and these. `--run` in place of COMMAND is the process of a run
of an experiment.
"""

from courier_tf.process import prepare

prepare()

# isort: split
import itertools
import sys
import time

import tensorflow as tf

from courier_tf.backbone.swin import SIZES
from courier_tf.commands.program import main
from courier_tf.commands.together import TogetherStage
from courier_tf.experiment import __main__ as run_of_an_experiment
from courier_tf.experiment.team import Team
from courier_tf.pretrain import fit as pretrain_fit
from courier_tf.ranking import fit as rank_fit

SIZES["micro"] = {"patch": 8, "dim": 8, "depths": (1, 2), "heads": (1, 2), "window": 2}
SLOW = "--step-seconds"  # An option of this program: the least time of a step, for tests that kill a worker in one.


def compile_with_sgd(model, learning_rate, slow=None):
    model.compile(tf.keras.optimizers.legacy.SGD(learning_rate))


class Pause(tf.keras.callbacks.Callback):
    """Takes the place of the progress lines."""

    def __init__(self, *_):
        super().__init__()

    def on_train_batch_end(self, batch, logs=None):
        print("step", int(self.model.steps.numpy()), flush=True)
        time.sleep(SECONDS)


if __name__ == "__main__":
    devices, words = int(sys.argv[1]), sys.argv[2:]
    SECONDS = float(words.pop()) if SLOW in words else 0.0
    words = [word for word in words if word != SLOW]
    tf.config.experimental.enable_op_determinism()
    if devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, devices * [tf.config.LogicalDeviceConfiguration()])
        logical = tf.config.list_logical_devices("CPU")
        tf.config.list_logical_devices = lambda kind: logical
    for module in (pretrain_fit, rank_fit):
        module.compile_with_adam = compile_with_sgd
        module.ProgressLines = Pause
    words_of = Team.words
    Team.words = lambda *given: ["-m", "tests.chain.worker_program", str(devices), "--run", *words_of(*given)[2:]]
    if words[0] == "--run":
        sys.argv = words
        sys.exit(run_of_an_experiment.main())
    join, workers = TogetherStage.joined_workers, []

    def join_once(command):  # A process can join once.
        workers[:] = workers or [join(command)]
        return workers[0]

    TogetherStage.joined_workers = join_once
    first, *further = [list(part) for then, part in itertools.groupby(words, "--then".__eq__) if not then]
    for more in ([], *further):
        main([*first, *more])
