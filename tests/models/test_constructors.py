"""GFFNet and PSPNet from plain arguments, their options, their classifier, and what may not be saved."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import gffnet
from gffnet.errors import UserError
from gffnet.models.fusion import FUSIONS, Addition, GatedFullyFusion
from gffnet.models.gffnet import GFFNet, PSPNet, SegmentationModel, _plain, build_network, load_model, save_model
from gffnet.models.model_io import CONFIG, hash_weights
from gffnet.models.ops import use_reference
from gffnet.models.pyramid import PYRAMIDS, DenseFeaturePyramid
from gffnet.recipe import BackboneRecipe, ModelRecipe, RecipeError
from tests import tiny

NAME = "test_resnet"
"""timm's miniature ResNet."""


def images(channels: int = 3, size: tuple[int, int] = (40, 56), batch: int = 2) -> Tensor:
    return torch.randint(0, 256, (batch, channels, *size), dtype=torch.uint8)


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


# Options


def test_it_is_the_network_of_the_same_recipe() -> None:
    recipe = ModelRecipe(
        BackboneRecipe(NAME, "none", 16, 4),
        context="dense_aspp",
        fusion="gated_fpn",
        dense_pyramid="literal",
        gate_channels="each",
        pyramid_kernel=3,
        channels=24,
        refinement=1,
        separable=True,
        dropout=0.25,
    )
    options = {"in_channels": 4, "context": "dense_aspp", "fusion": "gated_fpn", "pyramid": "literal", "dropout": 0.25}
    torch.manual_seed(3)
    options |= {"output_stride": 16, "gate_channels": "each", "pyramid_kernel": 3, "channels": 24, "refinement": 1}
    network = GFFNet(NAME, 7, **options, separable=True)
    torch.manual_seed(3)
    assert hash_weights(network) == hash_weights(build_network(recipe, 7))
    assert network.config.model == recipe
    assert network.head.dropout.p == 0.25


def test_by_default_it_is_the_paper_s() -> None:
    with torch.device("meta"):
        network, baseline = GFFNet("resnet101", 19), PSPNet("resnet101", 19)
        assert shapes(network) == shapes(build_network(gffnet.load_recipe("cityscapes/gffnet_r101").model, 19))
    assert round(sum(p.numel() for p in baseline.parameters()) / 1e6, 2) == 65.58  # Table 3
    assert baseline.fusion is None
    assert isinstance(baseline, GFFNet)


@pytest.mark.parametrize(("channels", "context"), [(8, 128), (32, 128), (200, 200)])
def test_channels_reach_every_part(channels: int, context: int) -> None:
    """`channels` of the maps, and of the context map unless a quarter of the backbone's are more."""
    with torch.device("meta"):
        network = GFFNet("resnet18", 5, channels=channels)
        baseline = PSPNet("resnet18", 5, channels=channels)
    assert {r.conv.out_channels for r in network.fusion.reductions} == {channels}
    assert {block.conv.out_channels for block in network.pyramid.blocks} == {channels}
    assert network.head.classifier.map_channels == (channels,) * 5
    assert network.context.out_channels == baseline.context.out_channels == context
    assert baseline.head.classifier.map_channels == (context,)


@pytest.mark.parametrize(
    ("name", "in_channels"),
    [
        *[("test_resnet", channels) for channels in (1, 4)],
        pytest.param("convnext_atto", 1, marks=pytest.mark.slow),
        pytest.param("swin_tiny_patch4_window7_224", 2, marks=pytest.mark.slow),
        pytest.param("efficientnet_b0", 4, marks=pytest.mark.slow),
        pytest.param("tresnet_m", 16, marks=pytest.mark.slow),
    ],
)
def test_any_timm_pyramid_of_any_number_of_channels(name: str, in_channels: int) -> None:
    with torch.device("meta"):
        network = GFFNet(name, 5, in_channels=in_channels, channels=16, output_stride=None).eval()
        assert network(torch.zeros(1, in_channels, 70, 101)).logits.shape == (1, 5, 70, 101)
    assert len(network.mean) == len(network.std) == in_channels


@pytest.mark.parametrize(
    ("in_channels", "mean"),
    [(1, (127.5,)), pytest.param(3, (127.5,) * 3, marks=pytest.mark.slow), (4, (127.5,) * 4)],
    ids=["grey", "rgb", "rgbd"],
)
def test_pretrained_weights_come_with_their_own_mean(
    in_channels: int, mean: tuple[float, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of timm's config, which for some models is not ImageNet's."""
    name = "mobilenetv3_small_050"
    config = timm.get_pretrained_cfg(name)
    monkeypatch.setattr(
        timm, "get_pretrained_cfg", lambda _: dataclasses.replace(config, mean=(0.5,) * 3, std=(0.5,) * 3)
    )
    torch.save(timm.create_model(name).state_dict(), tmp_path / "weights.pth")
    monkeypatch.setattr("gffnet.models.backbones.pretrained_file", lambda _: tmp_path / "weights.pth")
    options = {"in_channels": in_channels, "channels": 8, "output_stride": None}
    network = PSPNet(name, 5, pretrained=True, **options)
    assert network.mean == network.std == network.config.model.mean == mean
    assert PSPNet(name, 5, pretrained=True, **options, mean=(1.0,) * in_channels).mean == (1.0,) * in_channels
    assert PSPNet(name, 5, **options).mean[0] == pytest.approx(114.495 if in_channels == 1 else 123.675)


def test_weights_of_the_backbone_from_a_file(tmp_path: Path) -> None:
    model = timm.create_model(NAME)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    network = GFFNet(NAME, 5, channels=8, pretrained=tmp_path / "weights.pth")
    assert torch.equal(network.backbone.layer4[0].conv2.weight, model.layer4[0].conv2.weight)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"channels": 0}, "GFFNet: channels: must be greater than or equal to 1, got 0."),
        ({"fusion": "gf"}, "GFFNet: fusion: must be one of 'none', 'concat', 'addition', .* Did you mean 'gff'?"),
        ({"pyramid": "dens"}, "GFFNet: pyramid: must be one of .*got 'dens'. Did you mean 'dense'?"),
        ({"in_channels": 0}, "GFFNet: in_channels: must be greater than or equal to 1, got 0."),
        ({"output_stride": 4}, r"GFFNet: output_stride: must be 8, 16 or 32, got 4. .*None: the model's own"),
        ({"gate_channels": "all"}, "GFFNet: gate_channels: must be 'one' or 'each', got 'all'."),
        ({"pyramid_kernel": 2}, "GFFNet: pyramid_kernel: must be 1 or 3, got 2."),
        ({"refinement": -1}, "GFFNet: refinement: must be greater than or equal to 0, got -1."),
        ({"dropout": 1.0}, "GFFNet: dropout: must be less than 1, got 1.0."),
        ({"mean": (1.0, 2.0)}, "GFFNet: mean has 2 values and std 3: .* in_channels is 3"),
        ({"fusion": "none"}, "GFFNet: pyramid 'dense' works on fused maps, but fusion is 'none'"),
        (
            {"num_classes": 0},
            r"GFFNet: num_classes must be a whole number from 1 to 254 \(label 255 is ignored\), got 0.",
        ),
        ({"num_classes": 256}, "GFFNet: num_classes must be a whole number from 1 to 254"),
    ],
)
def test_a_wrong_option_is_named_as_in_python(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}") as raised:
        GFFNet(**{"backbone": NAME, "num_classes": 5, **options})
    assert isinstance(raised.value, RecipeError)
    assert "model." not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backbone": "resnt18"}, "backbone 'resnt18' is no model of timm .* Did you mean 'resnet18'"),
        (
            {"pretrained": "gone.pth"},
            r"weights file gone.pth does not exist.* Allowed: imagenet \(True in Python\), none",
        ),
        ({"backbone": "swin_tiny_patch4_window7_224"}, "has no output stride 8: .* None in Python: its own, 32"),
    ],
)
def test_a_backbone_that_is_not_available(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        GFFNet(**{"backbone": NAME, "num_classes": 5, **options})


def test_repr_begins_with_the_options_and_the_docstring_lists_them() -> None:
    first, options, *_ = repr(GFFNet(NAME, 5, in_channels=4, channels=32, mean=(1.0, 2.0, 3.0, 4.0))).splitlines()
    assert first == "GFFNet("
    network = eval(f"GFFNet({options.strip()})")  # what it says builds it again
    assert network.config == GFFNet(NAME, 5, in_channels=4, channels=32, mean=(1.0, 2.0, 3.0, 4.0)).config
    options = repr(PSPNet(NAME, 5, output_stride=None)).splitlines()[1]
    assert eval(f"PSPNet({options.strip()})").config.model.backbone.output_stride is None
    documented = GFFNet.__doc__
    assert documented is not None
    for argument in GFFNet.__init__.__annotations__.keys() - {"return"}:
        assert f"`{argument}`" in documented
    for name in ("none", *FUSIONS):
        if name != "none" and FUSIONS[name].__module__.startswith("gffnet."):
            assert f"`{name}`" in documented


def test_a_fusion_of_one_s_own_need_not_take_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(Addition):
        def __init__(self, in_channels: Any, channels: int = 256) -> None:
            super().__init__(in_channels, channels)

    monkeypatch.setitem(FUSIONS, "plain", Plain)
    assert type(GFFNet(NAME, 5, channels=8, fusion="plain").fusion) is Plain
    with pytest.raises(UserError, match=r"refinement is 1, but Plain takes no such argument\. Add `refinement` to its"):
        GFFNet(NAME, 5, channels=8, fusion="plain", refinement=1)
    with pytest.raises(UserError, match=r"gate_channels is each, but Plain takes no such argument"):
        GFFNet(NAME, 5, channels=8, fusion="plain", gate_channels="each")
    GFFNet(NAME, 5, channels=8, fusion="addition", gate_channels="each")  # a recipe for all rows of an ablation


def test_parts_derived_from_the_package_s_own_need_not_take_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gated(GatedFullyFusion):
        def __init__(self, in_channels: Any, channels: int = 256) -> None:
            super().__init__(in_channels, channels)

    class Dense(DenseFeaturePyramid):
        def __init__(self, context_channels: int, levels: int, channels: int) -> None:
            super().__init__(context_channels, levels, channels)

    monkeypatch.setitem(FUSIONS, "gated", Gated)
    monkeypatch.setitem(PYRAMIDS, "own_dense", Dense)
    network = GFFNet(NAME, 5, channels=8, fusion="gated", pyramid="own_dense")
    assert (type(network.fusion), type(network.pyramid)) == (Gated, Dense)
    with pytest.raises(UserError, match=r"gate_channels is each, but Gated takes no such argument"):
        GFFNet(NAME, 5, channels=8, fusion="gated", gate_channels="each")
    with pytest.raises(UserError, match=r"pyramid_kernel is 3, but Dense takes no .* Add `kernel_size` to its"):
        GFFNet(NAME, 5, channels=8, pyramid="own_dense", pyramid_kernel=3)


# The classifier


def test_classes_known_by_name_keep_their_weights_and_color() -> None:
    network = GFFNet(NAME, 3, channels=8).eval()
    network.reset_classifier(classes=["road", "car", "sky"])
    old, palette = network(images()).logits, network.config.palette
    network.reset_classifier(classes=["sky", "person", "road"])
    new = network(images()).logits
    torch.manual_seed(0)
    x = images()
    before = GFFNet(NAME, 3, channels=8)
    assert old.shape == new.shape
    assert network.config.classes == ("sky", "person", "road")
    assert (network.config.palette[0], network.config.palette[2]) == (palette[2], palette[0])
    assert len(set(network.config.palette)) == 3
    assert not network.training
    # Row by row, against a classifier of known weights.
    before.reset_classifier(classes=["road", "car", "sky"])
    before.eval()
    first = before(x).logits.detach()
    before.reset_classifier(classes=["sky", "person", "road"])
    second = before(x).logits.detach()
    torch.testing.assert_close(second[:, [0, 2]], first[:, [2, 0]])
    assert not torch.allclose(second[:, 1], first[:, 1])


def test_a_number_of_classes_makes_all_weights_new() -> None:
    network = GFFNet(NAME, 5, channels=8).double()
    before = network.head.classifier.weight.detach().clone()
    network.reset_classifier(7)
    assert network.head.classifier.weight.shape[0] == 7
    assert network.head.classifier.weight.dtype == torch.float64
    assert not (network.head.classifier.weight[:5] == before).any()
    assert network.config.classes == tuple(f"class_{i}" for i in range(7))
    assert network(images()).logits.shape == (2, 7, 40, 56)


def test_a_trained_model_gets_other_classes(tmp_path: Path) -> None:
    recipe = tiny.recipe(tiny.GFFNET, {"crop": [32, 48]})
    config = dataclasses.replace(tiny.config(recipe), learned_from=(360, 480))
    save_model(tmp_path, tiny.network(recipe), config)
    network = GFFNet.from_pretrained(tmp_path)
    network.reset_classifier(classes=["tree", "lamp"])
    assert (network.config.dataset, network.config.learned_from) == ("", None)
    assert network.config.evaluation == config.evaluation
    network.save_pretrained(tmp_path / "other")
    loaded, read = load_model(tmp_path / "other")
    assert read == network.config
    assert hash_weights(loaded) == hash_weights(network)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "give num_classes, or the names"),
        ({"num_classes": 0}, "allowed are 1 to 254"),
        ({"num_classes": 256}, "allowed are 1 to 254"),
        ({"classes": []}, "allowed are 1 to 254"),
        ({"num_classes": 3, "classes": ["a", "b"]}, "num_classes is 3, but 2 classes are named"),
        ({"classes": ["a", "b", "a"]}, "class 'a' is there twice"),
    ],
)
def test_wrong_classes(arguments: dict[str, Any], said: str) -> None:
    network = PSPNet(NAME, 2, channels=8)
    before = network.head
    with pytest.raises(ValueError, match=said):
        network.reset_classifier(**arguments)
    assert network.head is before


# Saving and loading


@pytest.mark.parametrize("kind", [GFFNet, PSPNet])
def test_what_is_saved_is_loaded(kind: type[GFFNet], tmp_path: Path) -> None:
    network = kind(NAME, 5, in_channels=2, channels=12).eval()
    network.save_pretrained(tmp_path)
    loaded, config = load_model(tmp_path)
    assert type(loaded) is type(GFFNet.from_pretrained(tmp_path)) is kind
    assert config == network.config == loaded.config
    assert hash_weights(loaded) == hash_weights(network)
    x = images(2)
    torch.testing.assert_close(loaded(x).logits, network(x).logits)
    assert not loaded.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in loaded.parameters())
    assert (gffnet.load(tmp_path, "cpu", "float32").predict(x[0]) == network(x[:1]).logits[0].argmax(0).numpy()).all()
    card = (tmp_path / "README.md").read_text()
    assert "made with the Python package gffnet" in card
    assert "datasets" not in card


def test_the_model_that_ships() -> None:
    network = GFFNet.from_pretrained()
    assert (type(network), network.config.dataset, len(network.config.classes)) == (GFFNet, "camvid", 11)
    assert hash_weights(network) == hash_weights(load_model(gffnet.models.model_io.shipped_model())[0])


class Maximum(Addition):
    """A fusion that no registry knows, with the weights of one that it knows."""


def _own_fusion(network: GFFNet) -> None:
    network.fusion = Maximum(network.fusion.in_channels, 8)


def _other_refinement(network: GFFNet) -> None:
    network.fusion = Addition(network.fusion.in_channels, 8, refinement=1)


def _own_head(network: GFFNet) -> None:
    network.head = nn.Conv2d(8, 5, 1)


def _other_classes(network: GFFNet) -> None:
    network.head = type(network.head)(network.head.classifier.map_channels, 6)


def _other_mean(network: GFFNet) -> None:
    network.mean = (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_own_fusion, "its fusion is a Maximum, where the config has Addition"),
        (_other_refinement, r"its fusion\.refinements\.0\.1 is a NoneType, where the config has ConvBlock"),
        (_own_head, "its head is a Conv2d, where the config has Head"),
        (_other_classes, r"head\.classifier\.weight is \(6, 40, 1, 1\), not \(5, 40, 1, 1\)"),
        (_other_mean, r"its mean and std, \(0\.0, 0\.0, 0\.0\)"),
        (SegmentationModel.fold, "folded for inference"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_what_could_not_be_loaded_is_not_saved(change: Any, said: str, there: bool, tmp_path: Path) -> None:
    network = GFFNet(NAME, 5, channels=8, fusion="addition")
    if there:
        network.save_pretrained(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("model/*")}
    change(network)
    with pytest.raises(UserError, match=rf"this network cannot be saved.*{said}"):
        network.save_pretrained(tmp_path / "model")
    assert {path.name: path.read_bytes() for path in tmp_path.glob("model/*")} == before
    assert (tmp_path / "model").exists() == there


def test_a_config_of_an_older_version(tmp_path: Path) -> None:
    """Without `channels`, `refinement` and `separable`, and with mean and std as numbers."""
    recipe = tiny.recipe({**tiny.GFFNET, "channels": 256})
    network = tiny.network(recipe)
    save_model(tmp_path, network, tiny.config(recipe))
    config = json.loads((tmp_path / CONFIG).read_text())
    for key in ("channels", "refinement", "separable"):
        del config["model"][key]
    assert config["model"]["mean"] == [123.675, 116.28, 103.53]
    (tmp_path / CONFIG).write_text(json.dumps(config))
    loaded, read = load_model(tmp_path)
    assert read == tiny.config(recipe)
    assert hash_weights(loaded) == hash_weights(network)


@pytest.mark.parametrize("open_model", [load_model, GFFNet.from_pretrained, gffnet.load])
def test_the_name_of_a_recipe_is_recognised(open_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gffnet.models.model_io.snapshot_download", None)  # the hub is not asked
    with pytest.raises(UserError, match=r"'camvid/gffnet_r18' is the name of a recipe.* its run folder"):
        open_model("camvid/gffnet_r18")


# Folded networks


def test_a_folded_network_says_so_and_cannot_be_trained() -> None:
    network = tiny.network(tiny.recipe(tiny.GFFNET))
    x = images()
    expected = network(x).logits
    assert network.fold() is network
    torch.testing.assert_close(network(x).logits, expected, rtol=1e-4, atol=1e-4)
    assert "folded for inference, frozen" in repr(network).splitlines()[1]
    assert not any(p.requires_grad for p in network.parameters())
    with pytest.raises(
        UserError, match=r"cannot be trained\. Train that of gffnet\.load_model\(MODEL\) or gffnet\.GFF"
    ):
        network.train()
    assert not network.eval().training
    opened = GFFNet(NAME, 5, channels=8).fold()
    assert [line.strip()[:6] for line in repr(opened).splitlines()[1:3]] == ["'test_", "folded"]


# Images that are not in 0..255


def warned(network: nn.Module, x: Tensor) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network(x)
    return [str(each.message) for each in caught if "images are floats" in str(each.message)]


@pytest.fixture
def network() -> GFFNet:
    return PSPNet(NAME, 3, channels=8).eval()


@pytest.mark.parametrize(
    "x",
    [torch.rand(2, 3, 32, 32), torch.randn(2, 3, 32, 32), torch.rand(2, 3, 32, 32) - 0.5],
    ids=["0..1", "z", "centred"],
)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_floats_that_are_not_in_0_to_255_are_warned_about_once(network: GFFNet, x: Tensor, mode: Any) -> None:
    with mode():
        (message,) = warned(network, x)
        assert "takes uint8, or floats in 0..255, and normalises them itself" in message
        assert "multiply images in 0..1 by 255" in message
        assert warned(network, x) == []


def test_images_in_0_to_255_are_not_warned_about(network: GFFNet) -> None:
    assert warned(network, images()) == []
    assert warned(network, images().float()) == []
    assert warned(network, (images() // 255)) == []  # uint8, however dark
    assert warned(network, torch.zeros(1, 3, 32, 32)) == []  # to try it with
    assert len(warned(network, torch.rand(1, 3, 32, 32))) == 1


def test_predictors_and_folded_networks_do_not_warn() -> None:
    """A window may be nearly black."""
    predictor = tiny.predictor()
    assert warned(predictor.network, torch.rand(1, 3, 32, 32)) == []


@pytest.mark.slow
def test_no_warning_stands_in_the_way_of_tracing(network: GFFNet) -> None:
    x = torch.rand(1, 3, 64, 64)

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.network(images).logits
            return logits

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the images are floats")
        program = torch.export.export(Logits(), (x,)).module()
        with torch.device("meta"):
            PSPNet(NAME, 3, channels=8)(torch.rand(1, 3, 64, 64, device="meta"))
        with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as fake:
            network(fake.from_tensor(x))
    use_reference(network, False)
    with FlopCounterMode(display=False):
        assert len(warned(network, x)) == 1
    torch.testing.assert_close(program(x), network(x).logits, rtol=1e-4, atol=1e-4)


def test_the_wrong_scale_is_wrong() -> None:
    """What the warning is about: the labels differ, without any error."""
    network, x = tiny.network(tiny.recipe()), torch.from_numpy(tiny.picture(0)).permute(2, 0, 1)[None]
    with pytest.warns(UserWarning, match=r"the images are floats from 0.* to 0\."):
        wrong = network(x / 255).logits.argmax(1)
    assert (wrong == network(x).logits.argmax(1)).float().mean() < 0.9


def test_modules_refuse_what_they_cannot_take() -> None:
    with pytest.raises(ValueError, match=r"^GatedFullyFusion: gate_channels must be 'one' .* or 'each' .* not 'all'$"):
        GatedFullyFusion((4, 8), 8, gate_channels="all")
    with pytest.raises(ValueError, match=r"^kernel_size must be 1 or 3, not 2$"):
        gffnet.DenseFeaturePyramid(4, 2, 8, kernel_size=2)
    pyramid = gffnet.DenseFeaturePyramid(4, 2, 8)
    for maps in ([torch.zeros(1, 8, 4, 4)], [torch.zeros(1, 8, 4, 4), torch.zeros(1, 7, 2, 2)]):
        with pytest.raises(ValueError, match="DenseFeaturePyramid was built for "):
            pyramid(torch.zeros(1, 4, 2, 2), maps)
    with pytest.raises(ValueError, match="levels must be a whole number above 0, not 0"):
        gffnet.DenseFeaturePyramid(4, 0)
    with pytest.raises(ValueError, match="Head: num_classes must be a whole number above 0, not 0"):
        gffnet.models.gffnet.Head((4,), 0)


def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    assert (_plain(np.int64(3)), type(_plain(np.int64(3)))) == (3, int)
    assert (_plain(True), _plain("3"), _plain(2.5)) == (True, "3", 2.5), "the schema refuses these"


def test_a_network_with_another_activation_is_not_saved(tmp_path: Path) -> None:
    """It has weights of the same names and shapes, and would be loaded as another function."""
    network = GFFNet("test_resnet", num_classes=2, channels=16)
    network.backbone.act1 = nn.GELU()
    with pytest.raises(UserError, match=r"its backbone\.act1 is a GELU, where the config has ReLU"):
        network.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("name", ["forward", "encode", "features", "reduce", "decode", "normalize"])
def test_a_network_that_computes_by_a_method_of_its_own_is_not_saved(tmp_path: Path, name: str) -> None:
    method = getattr(GFFNet, name)
    other = type("Other", (GFFNet,), {name: lambda self, *inputs: method(self, *inputs)})
    with pytest.raises(UserError, match=f"its class Other has {name} of its own"):
        other("test_resnet", num_classes=2, channels=16).save_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("weights", ["float32", "float16"])
def test_a_network_of_another_dtype_is_loaded_in_float32(tmp_path: Path, dtype: torch.dtype, weights: Any) -> None:
    network = GFFNet("test_resnet", num_classes=2, channels=16).to(dtype)
    network.save_pretrained(tmp_path, weights=weights)
    loaded = GFFNet.from_pretrained(tmp_path)
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.head.classifier.bias, network.head.classifier.bias.float())


def test_images_of_another_shape_and_statistics_of_another_range() -> None:
    network = GFFNet("test_resnet", num_classes=2, channels=16)
    for shape in ((1, 4, 32, 32), (1, 1, 32, 32)):
        with pytest.raises(ValueError, match=r"allowed are \(B, 3, H, W\) in 0\.\.255"):
            network(torch.zeros(shape))
    with pytest.raises(
        RecipeError, match=r"are in 0..1, and this network takes images in 0..255: multiply both by 255"
    ):
        GFFNet("test_resnet", num_classes=2, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    GFFNet("test_resnet", num_classes=2, mean=(0.0,) * 3, std=(1.0,) * 3)  # normalised by the user
