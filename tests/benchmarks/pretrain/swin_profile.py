"""Where a step of Swin spends its time, in ours and in torchvision's: a table of milliseconds by kind of operation.

python -m tests.benchmarks.pretrain.swin_profile OUT [SIZE] [BATCH]

Both sides train with Adam in float32 on one core each, so that the times of operations do not overlap. Writes
OUT/swin_profile.md. Needs the extra `benchmark`.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from tests.benchmarks.child import repeated

STEPS = 5
WHOLE = ("Run", "Process", "__inference")  # Names of what holds other operations.
#: Kind -> what the names of its operations hold, in lower case. The first kind that fits counts.
KINDS = {
    "matrix products and convolutions": r"matmul|einsum|conv|addmm|::bmm|::mm",
    "Adam": r"adam|addcdiv|addcmul|lerp|sqrt",
    "error function of GELU": r"erf|gelu",
    "softmax": r"softmax",
    "normalisation": r"norm|rsqrt|squareddifference",
    "moving data (windows, transposes, copies)": r"transpose|reshape|slice|concat|copy|clone|roll|pad|gather|pack|index"
    r"|cat|scatter|fill|zero|tile|broadcast|contiguous|permute|select|snapshot|identity",
    "sums and means": r"sum|mean|addn",
    "element by element": r"add|mul|sub|div|neg|exp|pow|square|tanh|fused|mlir|_wrapped|relu|where|assign|cast",
}


def kind_of(name: str) -> str:
    """The kind of an operation.

    >>> kind_of("aten::addmm"), kind_of("FusedBatchMatMulV2"), kind_of("LayerNormGrad"), kind_of("aten::unknown")
    ('matrix products and convolutions', 'matrix products and convolutions', 'normalisation', 'others')
    """
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, name.lower())), "others")


def profile_ours(size: int, batch: int) -> tuple[Counter[str], float]:
    """Milliseconds of a step by operation, and of the whole step."""
    from tests.benchmarks.pretrain.swin_speed import tensorflow_step

    step = tensorflow_step("ours", "tiny", size, "float32", "train", _photos(size, batch))
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    whole = repeated(step)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(STEPS):
            step()
        tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    spent: Counter[str] = Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                _, colon, name = plane.event_metadata[event.metadata_id].name.rpartition(":")  # NODE:OPERATION.
                if colon and not name.strip().startswith(WHOLE):
                    spent[name] += event.duration_ps / 1e9 / STEPS
    return spent, 1000 * whole


def profile_torchvision(size: int, batch: int) -> tuple[Counter[str], float]:
    """The same of torchvision's."""
    import torch

    from tests.benchmarks.pretrain.swin_speed import torch_step

    torch.set_num_threads(1)
    step = torch_step("tiny", "float32", "train", _photos(size, batch))
    whole = repeated(step)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        for _ in range(STEPS):
            step()
    spent: Counter[str] = Counter()
    for event in profiler.key_averages():
        spent[event.key] += event.self_cpu_time_total / 1000 / STEPS
    return spent, 1000 * whole


def _photos(size: int, batch: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=[batch, size, size, 3]).astype(np.float32)


def main(out: str, size: str = "224", batch: str = "8") -> None:
    """Profiles both sides, each in a process of its own, and writes the table."""
    spent, wholes, operations = {}, {}, {}
    for side in ("ours", "torchvision"):
        command = ["taskset", "--cpu-list", "0", sys.executable, "-m", __spec__.name, "--side", side, size, batch]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        operations[side], wholes[side] = json.loads(done.stdout.splitlines()[-1])
        spent[side] = Counter[str]()
        for name, milliseconds in operations[side].items():
            spent[side][kind_of(name)] += milliseconds
    lines = [f"| Swin-T, {size} px, batch of {batch}, one core, float32 | ours, ms | torchvision, ms | ratio |"]
    lines.append("|---|---|---|---|")
    rows = {kind: (spent["ours"][kind], spent["torchvision"][kind]) for kind in [*KINDS, "others"]}
    rows |= {"all operations": (spent["ours"].total(), spent["torchvision"].total())}
    rows |= {"a step, not profiled": (wholes["ours"], wholes["torchvision"])}
    for kind, (ours, theirs) in rows.items():
        ratio = f"{theirs / ours:.2f}" if ours else ""
        lines.append(f"| {kind} | {ours:.0f} | {theirs:.0f} | {ratio} |")
    for side, of_side in operations.items():
        most = Counter(of_side).most_common(25)
        lines += ["", f"{side}: " + ", ".join(f"{name} {milliseconds:.0f}" for name, milliseconds in most)]
    Path(out).mkdir(parents=True, exist_ok=True)
    (Path(out) / "swin_profile.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    if sys.argv[1] == "--side":
        profiled = {"ours": profile_ours, "torchvision": profile_torchvision}[sys.argv[2]]
        print(json.dumps(profiled(int(sys.argv[3]), int(sys.argv[4]))))
    else:
        main(*sys.argv[1:])
