"""Foreign weights: names and shapes of both layouts, against a Swin written out in NumPy on the same tensors."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from courier_tf.backbone import checkpoints
from courier_tf.backbone.checkpoints import CheckpointError, load_checkpoint, official_name, weights_of
from courier_tf.backbone.swin import SIZES, SwinBackbone

DIM, HEADS, WINDOW, DEPTHS = 4, (1, 2), 2, (2, 1)


def backbone():
    return SwinBackbone(patch=2, dim=DIM, depths=DEPTHS, heads=HEADS, window=WINDOW)


def official(rng) -> dict[str, np.ndarray]:
    """A random checkpoint in the official layout, with the parts that are no weights."""

    def draw(*shape):
        return rng.normal(0, 0.5, shape).astype(np.float32)

    state = {"patch_embed.proj.weight": draw(DIM, 3, 2, 2), "patch_embed.proj.bias": draw(DIM)}
    norms = {"patch_embed.norm": DIM, "norm": 2 * DIM, "layers.0.downsample.norm": 4 * DIM}
    state["layers.0.downsample.reduction.weight"] = draw(2 * DIM, 4 * DIM)
    state["head.weight"], state["head.bias"] = draw(10, 2 * DIM), draw(10)
    for stage, depth in enumerate(DEPTHS):
        width = DIM * 2**stage
        for place in range(depth):
            name = f"layers.{stage}.blocks.{place}"
            norms |= {f"{name}.norm1": width, f"{name}.norm2": width}
            shapes = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
            shapes |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
            for part, shape in shapes.items():
                state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"] = draw(*shape), draw(shape[0])
            state[f"{name}.attn.relative_position_bias_table"] = draw((2 * WINDOW - 1) ** 2, HEADS[stage])
            state[f"{name}.attn.relative_position_index"] = np.zeros([4, 4], np.int64)
    for name, width in norms.items():
        state[f"{name}.weight"], state[f"{name}.bias"] = draw(width), draw(width)
    return state


def torchvision(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same tensors under torchvision's names."""
    named = {}
    for name, value in state.items():
        part = name.split(".")
        if part[0] == "patch_embed":
            name = f"features.0.{ {'proj': 0, 'norm': 2}[part[1]] }.{part[2]}"
        elif part[0] == "layers" and part[2] == "downsample":
            name = ".".join(["features", str(2 * int(part[1]) + 2), *part[3:]])
        elif part[0] == "layers":
            rest = ".".join(part[3:]).replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")
            name = f"features.{2 * int(part[1]) + 1}.{rest}"
        named[name] = value
    return named


def swin_in_numpy(state, photo):
    """One photo [H, W, 3] through torchvision's Swin, token by token, window by window."""

    def norm(name, x):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * state[f"{name}.weight"] + state[f"{name}.bias"]

    def dense(name, x):
        return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)

    def attention(name, tokens, heads, mask):
        width = tokens.shape[-1] // heads
        qkv = dense(f"{name}.qkv", tokens).reshape(len(tokens), 3, heads, width)
        mixed = np.zeros([len(tokens), heads, width])
        for head in range(heads):
            query, key, value = qkv[:, 0, head], qkv[:, 1, head], qkv[:, 2, head]
            for i in range(len(tokens)):
                logits = np.full(len(tokens), -np.inf)
                for j in np.flatnonzero(mask[i]):
                    down, right = i // WINDOW - j // WINDOW + WINDOW - 1, i % WINDOW - j % WINDOW + WINDOW - 1
                    bias = state[f"{name}.relative_position_bias_table"][down * (2 * WINDOW - 1) + right, head]
                    logits[j] = query[i] @ key[j] / math.sqrt(width) + bias
                weights = np.exp(logits - logits.max())
                mixed[i, head] = weights / weights.sum() @ value
        return dense(f"{name}.proj", mixed.reshape(len(tokens), -1))

    def block(name, grid, heads, shift):
        height, width = grid.shape[:2]
        padded = [-(-size // WINDOW) * WINDOW for size in (height, width)]
        shifts = [shift if size > WINDOW else 0 for size in padded]
        normal = np.zeros([*padded, grid.shape[2]])  # Padding is 0 after the norm.
        normal[:height, :width] = norm(f"{name}.norm1", grid)
        source = np.stack(np.meshgrid(*map(np.arange, padded), indexing="ij"), -1)
        rolled, came = (np.roll(x, [-size for size in shifts], (0, 1)) for x in (normal, source))
        out = np.zeros_like(normal)
        for top in range(0, padded[0], WINDOW):
            for left in range(0, padded[1], WINDOW):
                window = np.s_[top : top + WINDOW, left : left + WINDOW]
                where = came[window].reshape(-1, 2)
                near = np.abs(where[:, None] - where[None]).max(-1) < WINDOW
                tokens = rolled[window].reshape(WINDOW**2, -1)
                out[window] = attention(f"{name}.attn", tokens, heads, near).reshape(WINDOW, WINDOW, -1)
        grid = grid + np.roll(out, shifts, (0, 1))[:height, :width]
        hidden = dense(f"{name}.mlp.fc1", norm(f"{name}.norm2", grid))
        hidden = hidden * np.vectorize(lambda x: 0.5 * (1 + math.erf(x / math.sqrt(2))))(hidden)
        return grid + dense(f"{name}.mlp.fc2", hidden)

    height, width = photo.shape[0] // 2, photo.shape[1] // 2
    patches = photo[: height * 2, : width * 2].reshape(height, 2, width, 2, 3)
    grid = np.einsum("hawbc,dcab->hwd", patches, state["patch_embed.proj.weight"]) + state["patch_embed.proj.bias"]
    grid = norm("patch_embed.norm", grid)
    for stage, depth in enumerate(DEPTHS):
        for place in range(depth):
            grid = block(f"layers.{stage}.blocks.{place}", grid, HEADS[stage], place % 2 * (WINDOW // 2))
        if stage == 0:
            grid = np.pad(grid, [(0, grid.shape[0] % 2), (0, grid.shape[1] % 2), (0, 0)])
            quarters = [grid[0::2, 0::2], grid[1::2, 0::2], grid[0::2, 1::2], grid[1::2, 1::2]]
            grid = dense(
                "layers.0.downsample.reduction", norm("layers.0.downsample.norm", np.concatenate(quarters, -1))
            )
    return norm("norm", grid)


def load_state(model, state):
    with tempfile.TemporaryDirectory() as folder:
        save_file(state, Path(folder) / "swin.safetensors")
        load_checkpoint(model, Path(folder) / "swin.safetensors")


@pytest.mark.parametrize("layout", [dict, torchvision])
def test_loaded_weights_give_the_features_of_the_checkpoint(tmp_path, layout):
    rng = np.random.default_rng(0)
    state, photo = official(rng), rng.normal(size=[16, 16, 3]).astype(np.float32)
    save_file(layout(state), tmp_path / "swin.safetensors")
    model = backbone()
    load_checkpoint(model, tmp_path / "swin.safetensors")
    np.testing.assert_allclose(model(photo[None])[0], swin_in_numpy(state, photo), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("known", [True, False])
def test_published_weights_see_padding_as_torchvision_does(known):
    rng = np.random.default_rng(2)
    state = official(rng)
    model = SwinBackbone(
        patch=2, dim=DIM, depths=DEPTHS, heads=HEADS, window=WINDOW, padding="torchvision", recompute=known
    )
    load_state(model, state)
    signature = [tf.TensorSpec([None, None, None, 3])]
    run = model if known else tf.function(model, input_signature=signature, autograph=False)
    sizes = [(2, 2), (3, 4), (22, 6), *rng.integers(2, 24, [5, 2])]
    for height, width in sizes:  # Of photos; many fill neither patches nor windows.
        photo = rng.normal(size=[height, width, 3]).astype(np.float32)
        np.testing.assert_allclose(run(photo[None])[0], swin_in_numpy(state, photo), rtol=1e-3, atol=2e-4)
    assert model.get_config()["padding"] == "torchvision"


def test_masked_padding_is_not_seen():
    """On whole windows both paddings are the same; elsewhere they are not."""
    state, rng = official(np.random.default_rng(3)), np.random.default_rng(4)
    model = backbone()
    load_state(model, state)
    whole, cut = (rng.normal(size=[size, size, 3]).astype(np.float32) for size in (16, 20))
    np.testing.assert_allclose(model(whole[None])[0], swin_in_numpy(state, whole), rtol=1e-3, atol=1e-4)
    assert np.abs(model(cut[None])[0] - swin_in_numpy(state, cut)).max() > 0.01


def test_names_of_torchvision():
    assert official_name("features.0.2.weight") == "patch_embed.norm.weight"
    assert official_name("features.4.reduction.weight") == "layers.1.downsample.reduction.weight"
    assert official_name("features.5.3.mlp.3.bias") == "layers.2.blocks.3.mlp.fc2.bias"
    assert official_name("norm.weight") == "norm.weight"


def test_what_does_not_fit_is_told_in_a_line_and_changes_nothing(tmp_path):
    state = official(np.random.default_rng(1))
    state["layers.9.norm"] = state.pop("norm.bias")
    state["patch_embed.proj.bias"] = np.zeros(7, np.float32)
    save_file(state, tmp_path / "swin.safetensors")
    model = backbone()
    before = model.get_weights()
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(model, tmp_path / "swin.safetensors")
    assert str(refused.value).endswith(
        "swin.safetensors does not fit this backbone: missing: norm.bias; 2 other tensors do not fit, either"
    )
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("layout", [dict, torchvision])
def test_weights_of_another_size_name_their_backbone(tmp_path, layout, monkeypatch):
    monkeypatch.setitem(SIZES, "own", {"patch": 2, "dim": DIM, "depths": DEPTHS, "heads": HEADS, "window": WINDOW})
    save_file(layout(official(np.random.default_rng(1))), tmp_path / "swin.safetensors")
    other = SwinBackbone(**SIZES["micro"])
    with pytest.raises(CheckpointError) as refused:
        load_checkpoint(other, tmp_path / "swin.safetensors")
    told = "swin.safetensors does not fit this backbone: these are weights of own: add --backbone own"
    assert str(refused.value) == f"{tmp_path}/{told}"
    for differs in ({"heads": (2, 2)}, {"dim": 8}, {"depths": (2, 2)}, {"window": 4}, {"patch": 4}):
        monkeypatch.setitem(SIZES, "own", {**SIZES["own"], **differs})
        with pytest.raises(CheckpointError, match=r"patch_embed.proj.weight|missing: .*; \d+ other tensors do not fit"):
            load_checkpoint(other, tmp_path / "swin.safetensors")
        monkeypatch.setitem(SIZES, "own", {"patch": 2, "dim": DIM, "depths": DEPTHS, "heads": HEADS, "window": WINDOW})


@pytest.mark.slow
@pytest.mark.parametrize("size", ["nano", "tiny", "small", "base"])
def test_every_size_is_known_by_its_tensors(size):
    axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    tensors = {
        name: np.broadcast_to(np.float32(0), [variable.shape[axis] for axis in axes[len(variable.shape)]])
        if not name.endswith("table")
        else np.broadcast_to(np.float32(0), variable.shape)
        for name, variable in weights_of(SwinBackbone(**SIZES[size])).items()
    }
    assert checkpoints._size_of(tensors) == size


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    """Where they are read: a training would stop after its first epoch, and blame its learning rate."""
    state = official(np.random.default_rng(1))
    state["layers.0.blocks.1.mlp.fc1.weight"][3, 2] = value
    save_file(state, tmp_path / "swin.safetensors")
    model = backbone()
    before = model.get_weights()
    told = r"swin.safetensors is damaged: 1 of the 64 numbers of layers.0.blocks.1.mlp.fc1.weight are NaN or infinite"
    with pytest.raises(CheckpointError, match=told):
        load_checkpoint(model, tmp_path / "swin.safetensors")
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_unreadable_files(tmp_path):
    (tmp_path / "swin.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(backbone(), tmp_path / "swin.safetensors")
    with pytest.raises(CheckpointError, match="is none of .pth, .pt, .safetensors"):
        load_checkpoint(backbone(), tmp_path / "swin.h5")
