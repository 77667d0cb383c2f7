"""The commands of `courier`, by the word of the command line."""

from courier_tf.commands.chain_commands import Cluster, Embed, Export, Ingest, Pretrain, Rank, Run
from courier_tf.commands.command import Command
from courier_tf.commands.data_commands import Check, Completion, DataReport, Doctor, Download, Experiment, Import, Shop
from courier_tf.commands.log_commands import Canary, EvaluatePolicy, Skew
from courier_tf.commands.model_commands import Demo, Interests, LoadTest, Predict, Report, Serve, Similar

#: Group -> word of the command line -> command. `courier --help` shows them in this order.
GROUPS: dict[str, dict[str, type[Command]]] = {
    "stages": {
        "run": Run,
        "ingest": Ingest,
        "pretrain": Pretrain,
        "embed": Embed,
        "cluster": Cluster,
        "rank": Rank,
        "export": Export,
    },
    "results and models": {
        "report": Report,
        "demo": Demo,
        "predict": Predict,
        "similar": Similar,
        "interests": Interests,
        "serve": Serve,
        "load-test": LoadTest,
    },
    "requests that were served": {"canary": Canary, "skew": Skew, "evaluate-policy": EvaluatePolicy},
    "data, experiments, this machine": {
        "check": Check,
        "data-report": DataReport,
        "download": Download,
        "import": Import,
        "shop": Shop,
        "experiment": Experiment,
        "doctor": Doctor,
        "completion": Completion,
    },
}
COMMANDS = {word: command for group in GROUPS.values() for word, command in group.items()}
