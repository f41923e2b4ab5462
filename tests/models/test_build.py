import itertools
from dataclasses import replace

import pytest
import torch

from gffnet.errors import UserError
from gffnet.models import gffnet as build
from gffnet.models.fusion import GatedFusion
from gffnet.models.gffnet import CONTEXTS, FUSIONS, PYRAMIDS, build_fusion, build_network, build_pyramid
from gffnet.recipe import BackboneRecipe, ModelRecipe, load_recipe, recipe_names
from gffnet.registry import NAMES
from tests.models.naive import assert_equal
from tests.models.stub import StubBackbone

WIDTHS = (32, 64, 128, 1024)
COMBINATIONS = [
    (context, fusion, pyramid)
    for context, fusion, pyramid in itertools.product(CONTEXTS, ["none", *FUSIONS], PYRAMIDS)
    if fusion != "none" or pyramid == "none"
]


@pytest.fixture
def _stub(monkeypatch):
    """Networks get a backbone of few channels."""
    monkeypatch.setattr(build, "build_backbone", lambda recipe: StubBackbone(recipe.in_channels, WIDTHS))


def test_every_name_of_a_recipe_has_its_row():
    assert set(CONTEXTS) == set(NAMES["context"])
    assert {"none", *FUSIONS} == set(NAMES["fusion"])
    assert set(PYRAMIDS) == set(NAMES["pyramid"])


@pytest.mark.usefixtures("_stub")
@pytest.mark.parametrize(("context", "fusion", "pyramid"), COMBINATIONS)
def test_every_combination_builds_and_runs_without_memory(context, fusion, pyramid):
    recipe = ModelRecipe(context=context, fusion=fusion, dense_pyramid=pyramid)
    with torch.device("meta"):
        network = build_network(recipe, classes=7)
        output = network(torch.zeros(2, 3, 40, 56))
    assert all(p.is_meta for p in network.parameters())
    assert output.logits.shape == (2, 7, 40, 56)
    assert type(network.context) is CONTEXTS[context]
    assert type(network.fusion) is FUSIONS.get(fusion, type(None))
    assert type(network.pyramid) is (type(None) if fusion == "none" else PYRAMIDS[pyramid])


@pytest.mark.usefixtures("_stub")
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("gate_channels", ["one", "each"])
def test_options_reach_the_variants_that_have_them(fusion, pyramid, kernel, gate_channels):
    recipe = ModelRecipe(fusion=fusion, dense_pyramid=pyramid, pyramid_kernel=kernel, gate_channels=gate_channels)
    with torch.device("meta"):
        network = build_network(recipe, classes=7)
    if isinstance(network.fusion, GatedFusion):
        assert {conv.out_channels for conv in network.fusion.gate_convs} == {1 if gate_channels == "one" else 256}
    if pyramid != "none":
        assert {block.conv.kernel_size for block in network.pyramid.blocks} == {(kernel, kernel)}


@pytest.mark.usefixtures("_stub")
def test_mean_deviation_dropout_and_channels_reach_the_network():
    recipe = ModelRecipe(
        BackboneRecipe(in_channels=2), mean=(1.0, 2.0), std=(3.0, 4.0), dropout=0.3, fusion="gff", dense_pyramid="dense"
    )
    network = build_network(recipe, classes=3)
    assert (network.mean, network.std) == ((1.0, 2.0), (3.0, 4.0))
    assert network.head.dropout.p == 0.3
    assert network(torch.zeros(2, 2, 16, 16)).logits.shape == (2, 3, 16, 16)


@pytest.mark.parametrize(("fusion", "taken"), [("gff", WIDTHS), ("fpn", (*WIDTHS, 256))])
def test_a_fusion_takes_the_context_map_if_it_wants_it(fusion, taken):
    with torch.device("meta"):
        assert build_fusion(ModelRecipe(fusion=fusion), (*WIDTHS, 256)).widths == taken


@pytest.mark.parametrize(("pyramid", "maps"), [("none", 5), ("dense", 5), ("literal", 6)])
def test_a_pyramid_says_how_many_maps_the_head_gets(pyramid, maps):
    with torch.device("meta"):
        assert build_pyramid(ModelRecipe(fusion="gff", dense_pyramid=pyramid), 512, 4, 256).widths == (256,) * maps


def without(state, *parts):
    return {name: value for name, value in state.items() if name.split(".")[0] not in parts}


@pytest.mark.usefixtures("_stub")
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_trained_context_loads_unchanged_into_every_fusion_network(context):
    trained = build_network(ModelRecipe(context=context), classes=7)
    start = without(trained.state_dict(), "head")
    assert {name.split(".")[0] for name in start} == {"backbone", "context"}
    for fusion, pyramid in itertools.product(FUSIONS, PYRAMIDS):
        network = build_network(ModelRecipe(context=context, fusion=fusion, dense_pyramid=pyramid), classes=7)
        common = without(network.state_dict(), "fusion", "pyramid", "head")
        assert {name: v.shape for name, v in common.items()} == {name: v.shape for name, v in start.items()}
        assert network.load_state_dict(start, strict=False).unexpected_keys == []
        assert_equal(without(network.state_dict(), "fusion", "pyramid", "head"), start, 0)


@pytest.mark.parametrize("pyramid", ["dense", "literal"])
def test_a_dense_pyramid_without_a_fusion_is_refused(pyramid):
    with pytest.raises(UserError, match=r"model\.dense_pyramid .*model\.fusion is 'none'.*name a fusion"):
        build_network(ModelRecipe(dense_pyramid=pyramid), classes=7)


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_builds(name):
    recipe = load_recipe(name).model
    untrained = replace(recipe, backbone=replace(recipe.backbone, weights="none"))
    with torch.device("meta"):
        network = build_network(untrained, classes=19)
    assert (network.fusion is None) == (recipe.fusion == "none")


def parameters(name):
    recipe = load_recipe(name).model
    with torch.device("meta"):
        network = build_network(replace(recipe, backbone=replace(recipe.backbone, weights="none")), classes=19)
    return sum(p.numel() for p in network.parameters())


def test_parameters_of_table_3():
    """PSPNet as in the paper, 65.6 M. GFF: reductions, 3x3 convolutions, gates, and the maps that the head gains."""
    pspnet = parameters("cityscapes/pspnet_r101")
    gff = parameters("cityscapes/pspnet_r101_gff")
    gffnet = parameters("cityscapes/gffnet_r101")
    norm, heads = 2 * 256, 19 * (5 * 256 - 512)
    assert round(pspnet / 1e6, 2) == 65.58
    assert gff - pspnet == 5_711_620 + (512 * 256 + norm) + heads
    assert gffnet - gff == 14 * 256 * 256 + 4 * norm
