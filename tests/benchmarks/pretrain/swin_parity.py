"""Checks that a torchvision state dict, loaded by `load_checkpoint`, gives torchvision's features."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from courier_tf.backbone.checkpoints import load_checkpoint
from courier_tf.backbone.swin import SIZES, SwinBackbone
from tests.benchmarks.child import answer
from tests.benchmarks.pretrain.torch_swin import torch_swin


def main() -> None:
    worst = 0.0
    # At the last three some maps are no whole windows, and 90 pixels no whole patches.
    for preset, size in (("tiny", 224), ("nano", 64), ("tiny", 64), ("tiny", 90), ("nano", 50)):
        theirs, ours = torch_swin(preset).eval(), SwinBackbone(**SIZES[preset], padding="torchvision")
        with torch.no_grad():
            for weight in theirs.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "swin.pth"
            torch.save(theirs.state_dict(), file)
            load_checkpoint(ours, file)
        photos = np.random.default_rng(0).normal(size=[2, size, size, 3]).astype(np.float32)
        with torch.inference_mode():
            expected = theirs(torch.from_numpy(photos.transpose(0, 3, 1, 2).copy())).numpy()
        features = ours(photos).numpy().mean(axis=(1, 2))
        np.testing.assert_allclose(features, expected, atol=1e-4)
        worst = max(worst, float(np.abs(features - expected).max()))
    answer(worst=worst)


if __name__ == "__main__":
    main()
