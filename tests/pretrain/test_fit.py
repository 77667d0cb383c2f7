"""What an encoder starts from."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save_file

from courier_tf.backbone.architectures import is_installed
from courier_tf.backbone.checkpoints import weights_of
from courier_tf.features.sources import PretrainedBackbone
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.encoder_files import EncoderError, load_encoder, save_encoder
from courier_tf.pretrain.fit import ENCODER_FOLDER, new_encoder, slow_backbone
from courier_tf.pretrain.head_encoder import HeadEncoder
from courier_tf.settings.presets import PRESETS

SETTINGS = dataclasses.replace(PRESETS["tiny"].pretrain, backbone="micro", embedding_dim=16)
PHOTOS = np.random.default_rng(0).integers(0, 255, [3, 32, 32, 3], dtype=np.uint8)


def test_a_file_gives_the_backbone_and_leaves_the_head(tmp_path):
    source = Encoder("micro", 16)
    file = tmp_path / "swin.safetensors"
    # PyTorch's order of axes, undone by the reader.
    axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    state = {
        name: np.ascontiguousarray(value if name.endswith("table") else value.transpose(axes[value.ndim]))
        for name, value in ((name, variable.numpy()) for name, variable in weights_of(source.backbone).items())
    }
    save_file(state, file)
    made = new_encoder(SETTINGS, file)
    pixels = PHOTOS.astype(np.float32)
    np.testing.assert_allclose(made.backbone(pixels), source.backbone(pixels), atol=1e-5)
    assert np.abs(made.head.kernel.numpy() - source.head.kernel.numpy()).max() > 1e-3


def test_a_stage_gives_the_whole_encoder(tmp_path):
    source = Encoder("micro", 16)
    save_encoder(source, tmp_path / ENCODER_FOLDER)
    np.testing.assert_array_equal(new_encoder(SETTINGS, tmp_path)(PHOTOS), source(PHOTOS))
    with pytest.raises(EncoderError, match="embedding_dim=16, but 8 is asked for"):
        new_encoder(dataclasses.replace(SETTINGS, embedding_dim=8), tmp_path)


def test_published_weights_of_swin_keep_their_padding(tmp_path):
    """In the files of the encoder, and where a later training starts from them."""
    file = tmp_path / "swin.safetensors"
    axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}
    weights = {name: variable.numpy() for name, variable in weights_of(Encoder("micro", 16).backbone).items()}
    turned = {
        name: np.ascontiguousarray(value if name.endswith("table") else value.transpose(axes[value.ndim]))
        for name, value in weights.items()
    }
    save_file(turned, file)
    published = new_encoder(SETTINGS, file)
    assert published.backbone.padding == "torchvision"
    cut = PHOTOS[:, :24, :20]  # Neither whole patches nor whole windows.
    save_encoder(published, tmp_path / ENCODER_FOLDER)
    for again in (new_encoder(SETTINGS, tmp_path), load_encoder(tmp_path / ENCODER_FOLDER)):
        np.testing.assert_array_equal(again(cut), published(cut))
    assert new_encoder(SETTINGS, None).backbone.padding == "masked"


LITE = "efficientnetlite_b0_imagenet"
needs_weights = pytest.mark.skipif(not is_installed(LITE), reason="needs the extra `pretrained`")


@pytest.fixture
def trained_head(tmp_path):
    """A head on the features of `LITE` with random weights everywhere, its files, and photos with their embeddings."""
    rng = np.random.default_rng(1)
    photos = rng.integers(0, 255, [5, 64, 64, 3], dtype=np.uint8)
    features = PretrainedBackbone(LITE).vectors(photos).numpy()
    head = HeadEncoder([LITE], [features.shape[1]], 16)
    head.fit_to(rng.normal(size=[40, features.shape[1]]).astype(np.float32))
    head.set_weights([weight + rng.normal(size=weight.shape, scale=0.05) for weight in head.get_weights()])
    save_encoder(head, tmp_path / ENCODER_FOLDER)
    return tmp_path, photos, head(features).numpy()


@needs_weights
@pytest.mark.slow
def test_an_encoder_of_photos_goes_on_from_a_head(trained_head):
    place, photos, embeddings = trained_head
    settings = dataclasses.replace(SETTINGS, backbone=LITE, embedding_dim=16, pretrain_steps=50)
    encoder = new_encoder(settings, place)
    np.testing.assert_allclose(encoder(photos).numpy(), embeddings, atol=2e-5)
    slow = slow_backbone(settings, place, encoder)
    assert (slow.factor, slow.first_step) == (0.1, 0), "the backbone is that of others, the layer after it is trained"
    save_encoder(encoder, place / "next" / ENCODER_FOLDER)
    for again in (new_encoder(settings, place / "next"), load_encoder(place / "next" / ENCODER_FOLDER)):
        np.testing.assert_array_equal(again(photos), encoder(photos))
    learning = {variable.ref() for variable in encoder.trainable_variables}
    assert not learning & {encoder.mean.ref(), encoder.standard.ref()}
    with pytest.raises(EncoderError, match="embedding_dim=16, but 8 is needed"):
        new_encoder(dataclasses.replace(settings, embedding_dim=8), place)


@pytest.mark.parametrize(
    ("backbone", "source", "kind", "message"),
    [
        ("micro", LITE, "linear", f"features={LITE}, but micro is needed"),
        (LITE, f"{LITE}:stages", "linear", f"features={LITE}:stages, but {LITE} is needed"),
        (LITE, LITE, "mlp", "head=mlp, but linear is needed"),
    ],
)
@needs_weights
def test_a_head_that_is_no_start_for_the_backbone_is_refused(tmp_path, backbone, source, kind, message):
    save_encoder(HeadEncoder([source], [1280], 16, kind), tmp_path / ENCODER_FOLDER)
    with pytest.raises(EncoderError, match=message):
        new_encoder(dataclasses.replace(SETTINGS, backbone=backbone), tmp_path)
