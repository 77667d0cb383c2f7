"""Reads weights of others: torchvision's `swin_*` state dicts and the official Swin checkpoints (.pth, .safetensors).

Both hold the same tensors. Torchvision numbers the parts that the official code names; here the official names hold.
No file is trusted: nothing in it is run.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.backbone.swin import SIZES, SwinBackbone
from courier_tf.backbone.torch_files import TorchFileError, read_torch_file

FORMATS = (".pth", ".pt", ".safetensors")

#: Tensors of a checkpoint that are no weights of a backbone: buffers that follow from the geometry, and the classifier.
NOT_WEIGHTS = re.compile(r"relative_position_index$|attn_mask$|^head\.")

#: Keys under which training scripts keep the weights, beside the optimizer and more.
INNER = ("model", "state_dict")


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or does not fit the backbone; the message lists the names."""


def load_checkpoint(backbone: SwinBackbone, file: Path) -> None:
    """Fills a Swin backbone with the weights of a checkpoint file.

    Args:
        backbone: of the size that the checkpoint has.
        file: a torchvision state dict or an official Swin checkpoint.

    Raises:
        CheckpointError: the file cannot be read, or names or shapes differ. The backbone is then untouched.
    """
    named = {official_name(name): value for name, value in read_tensors(file).items()}
    tensors = {name: value for name, value in named.items() if not NOT_WEIGHTS.search(name)}
    fill(weights_of(backbone), tensors, _as_ours, file, lambda: _size_of(tensors))


def fill(
    wanted: Mapping[str, tf.Variable],
    tensors: Mapping[str, np.ndarray],
    as_ours: Callable[[str, np.ndarray], np.ndarray],
    file: Path,
    name_of: Callable[[], str | None],
) -> None:
    """Assigns tensors to variables by name, all or none.

    Args:
        wanted: name of a tensor -> variable; each needs its tensor.
        tensors: name -> array; each needs its variable.
        as_ours: (name, array) -> the array in the order of Keras.
        file: where they come from, for messages.
        name_of: () -> name of the backbone that the tensors are of, if it is a known one.

    Raises:
        CheckpointError: names or shapes differ, or a number is not finite. All variables are then untouched.
    """
    faults = [f"missing: {name}" for name in wanted if name not in tensors]
    faults += [f"not of this backbone: {name}" for name in tensors if name not in wanted]
    values = {name: as_ours(name, tensors[name]) for name in wanted if name in tensors}
    faults += [
        f"{name} has the shape {list(tensors[name].shape)}, which gives {list(values[name].shape)}, "
        f"but {list(wanted[name].shape)} is needed"
        for name in values
        if values[name].shape != tuple(wanted[name].shape)
    ]
    if faults:
        name = name_of()
        if name:
            told = f"these are weights of {name}: add --backbone {name}"
        else:
            told = faults[0] + (f"; {len(faults) - 1} other tensors do not fit, either" if faults[1:] else "")
        raise CheckpointError(f"{file} does not fit this backbone: {told}")
    require_finite(values, file)
    for name, value in values.items():
        wanted[name].assign(value.astype(np.float32))


def require_finite(tensors: Mapping[str, np.ndarray], file: Path) -> None:
    """Refuses weights that are no numbers. A training would blame its learning rate for them.

    Raises:
        CheckpointError: names the file and the first such tensor.
    """
    for name, value in tensors.items():
        wrong = value.size - int(np.isfinite(value).sum())
        if wrong:
            raise CheckpointError(
                f"{file} is damaged: {wrong} of the {value.size} numbers of {name} are NaN or infinite"
            )


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """Name -> array of a checkpoint file, as it names them. A .pth file is read without PyTorch.

    Raises:
        CheckpointError: another format, a broken file, or a .pth file that holds more than data.
    """
    if file.suffix not in FORMATS:
        raise CheckpointError(f"{file} is none of {', '.join(FORMATS)}")
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}") from error
    try:
        content = read_torch_file(file)
    except (TorchFileError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    for name in INNER:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} cannot be read: it holds no weights by name")
    return {str(name): value for name, value in content.items() if isinstance(value, np.ndarray)}


def official_name(name: str) -> str:
    """The official name of a tensor that torchvision numbers. Other names stay.

    >>> official_name("features.0.0.weight")
    'patch_embed.proj.weight'
    """
    part = re.match(r"features\.(\d+)\.(.*)", name)
    if not part:
        return name
    place, rest = int(part[1]), part[2]
    if place == 0:
        return "patch_embed." + re.sub(r"^2\.", "norm.", re.sub(r"^0\.", "proj.", rest))
    stage = (place - 1) // 2
    if place % 2 == 0:
        return f"layers.{stage}.downsample.{rest}"
    rest = rest.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.3.", ".mlp.fc2.")
    return f"layers.{stage}.blocks.{rest}"


def weights_of(backbone: SwinBackbone) -> dict[str, tf.Variable]:
    """Official name -> variable, for every weight of a backbone."""
    patch = backbone.get_layer("patch_embedding")
    variables = {"patch_embed.proj.weight": patch.kernel, "patch_embed.proj.bias": patch.bias}

    def norm(name: str, layer: keras.layers.Layer) -> None:
        variables[f"{name}.weight"], variables[f"{name}.bias"] = layer.gamma, layer.beta

    def dense(name: str, layer: keras.layers.Layer) -> None:
        variables[f"{name}.weight"] = layer.kernel
        if layer.bias is not None:
            variables[f"{name}.bias"] = layer.bias

    norm("patch_embed.norm", backbone.get_layer("patch_norm"))
    for stage, depth in enumerate(backbone.depths):
        for place in range(depth):
            block, name = backbone.get_layer(f"stage{stage}_block{place}"), f"layers.{stage}.blocks.{place}"
            norm(f"{name}.norm1", block.attention.qkv)
            dense(f"{name}.attn.qkv", block.attention.qkv)
            dense(f"{name}.attn.proj", block.attention.projection)
            variables[f"{name}.attn.relative_position_bias_table"] = block.attention.relative_position_bias
            norm(f"{name}.norm2", block.expand)
            dense(f"{name}.mlp.fc1", block.expand)
            dense(f"{name}.mlp.fc2", block.contract)
        if stage + 1 < len(backbone.depths):
            merging = backbone.get_layer(f"stage{stage + 1}_merging").reduction
            norm(f"layers.{stage}.downsample.norm", merging)
            dense(f"layers.{stage}.downsample.reduction", merging)
    norm("norm", backbone.get_layer("final_norm"))
    return variables


def _size_of(tensors: Mapping[str, np.ndarray]) -> str | None:
    """The size of our Swin that has tensors of these shapes, under official names; None if there is none."""
    first = tensors.get("patch_embed.proj.weight", np.empty(0))
    blocks = [re.match(r"layers\.(\d+)\.blocks\.(\d+)\.attn\.relative_position_bias_table$", name) for name in tensors]
    places = sorted((int(block[1]), int(block[2])) for block in blocks if block)
    for name, size in SIZES.items():
        if places != [(stage, place) for stage, depth in enumerate(size["depths"]) for place in range(depth)]:
            continue
        tables = [
            tensors[f"layers.{stage}.blocks.{place}.attn.relative_position_bias_table"] for stage, place in places
        ]
        heads = [((2 * size["window"] - 1) ** 2, size["heads"][stage]) for stage, _ in places]
        if first.shape == (size["dim"], 3, size["patch"], size["patch"]) and [t.shape for t in tables] == heads:
            return name
    return None


def _as_ours(name: str, value: np.ndarray) -> np.ndarray:
    """PyTorch keeps [out, in] for dense layers and [out, in, height, width] for convolutions."""
    if name.endswith("bias_table") or value.ndim == 1:
        return value
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
