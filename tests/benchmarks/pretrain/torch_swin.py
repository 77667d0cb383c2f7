"""torchvision's Swin with our presets, pooled and without its classifier."""

import torch
import torchvision

from courier_tf.backbone.swin import SIZES


def torch_swin(preset: str) -> torch.nn.Module:
    """[B, 3, H, W] to pooled features, without stochastic depth, with random weights."""
    values = SIZES[preset]
    torch.manual_seed(0)
    model = torchvision.models.swin_transformer.SwinTransformer(
        patch_size=[values["patch"]] * 2,
        embed_dim=values["dim"],
        depths=list(values["depths"]),
        num_heads=list(values["heads"]),
        window_size=[values["window"]] * 2,
        mlp_ratio=values.get("mlp_ratio", 4),
        stochastic_depth_prob=0.0,
    )
    model.head = torch.nn.Identity()
    return model
