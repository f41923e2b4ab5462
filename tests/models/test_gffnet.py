"""The network against Figure 3 written out, and its construction from a recipe."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from torch import nn

from gffnet.errors import UserError
from gffnet.models.context import CONTEXTS, PyramidPooling
from gffnet.models.fusion import FPN, FUSIONS, Addition, Concat, GatedFPN, GatedFullyFusion, GatedFusion
from gffnet.models.gffnet import Head, SegmentationModel, build_network
from gffnet.models.layers import Output
from gffnet.models.ops import use_reference
from gffnet.models.pyramid import PYRAMIDS, DenseFeaturePyramid
from gffnet.recipe import BackboneRecipe, ModelRecipe, load_recipe
from gffnet.registry import names
from tests.models import naive
from tests.models.naive import (
    BACKBONE_SIZES,
    assert_equal,
    assert_implementations_agree,
    bfloat16_errors,
    pyramid_sizes,
    random_maps,
    sides,
)
from tests.models.stub import StubBackbone

HEAD_CHANNELS = (2, 4, 3, 1, 5)


def head_of(channels, dropout=0.1):
    return naive.randomized(Head(channels, 6, dropout))


def expected(head, maps, size):
    """All maps resized to the finest, concatenated, classified, resized to the image."""
    finest = (max(x.shape[-2] for x in maps), max(x.shape[-1] for x in maps))
    return naive.resize(naive.conv(head.classifier, naive.resized_cat(maps, finest)), size)


class TestHead:
    @pytest.mark.parametrize("reference", [False, True])
    @given(sizes=pyramid_sizes(least=1), size=sides(40))
    def test_equals_classification_of_the_concatenated_maps(self, reference, sizes, size):
        head = head_of(HEAD_CHANNELS[: len(sizes)])
        use_reference(head, reference)
        maps = random_maps(head.classifier.map_channels, sizes)
        assert_equal(head(maps, size), expected(head, maps, size))

    @pytest.mark.parametrize("sizes", BACKBONE_SIZES)
    def test_reference_and_efficient_agree_with_their_gradients(self, sizes):
        head = head_of(HEAD_CHANNELS[:4])
        maps = random_maps(HEAD_CHANNELS[:4], sizes)
        assert_implementations_agree(head, lambda m: m(maps, (51, 67)), maps)

    @pytest.mark.parametrize("reference", [False, True])
    def test_dropout_acts_on_whole_channels(self, reference):
        """With every map, weight and rate known, each logit tells how many channels were left."""
        head = Head((8, 8), 1, dropout=0.5).double().train()
        use_reference(head, reference)
        torch.nn.init.ones_(head.classifier.weight)
        logits = head([torch.ones(64, 8, 4, 4).double(), torch.ones(64, 8, 2, 2).double()], (8, 8))
        left = logits / 2  # dropout scales the rest by 1 / (1 - 0.5)
        assert_equal(left, left[:, :, :1, :1].expand_as(left))
        assert_equal(left, left.round())
        assert left[:, 0, 0, 0].unique().numel() > 4
        assert 7 < left.mean() < 9

    def test_no_dropout_in_evaluation(self):
        head = head_of(HEAD_CHANNELS[:2], dropout=0.9)
        maps = random_maps(HEAD_CHANNELS[:2], [(4, 4), (2, 2)])
        assert_equal(head(maps, (8, 8)), expected(head, maps, (8, 8)))

    def test_starts_without_preference(self):
        """Scores near zero: the first loss is the logarithm of the number of classes."""
        head = Head((256,) * 5, 19).eval()
        logits = head([torch.randn(1, 256, 4, 4) for _ in range(5)], (4, 4))
        loss = torch.nn.functional.cross_entropy(logits, torch.zeros(1, 4, 4, dtype=torch.long))
        assert loss.item() == pytest.approx(torch.log(torch.tensor(19.0)).item(), rel=0.2)
        assert not head.classifier.bias.any()

    def test_bfloat16_error_is_close_to_that_of_the_reference(self):
        head = head_of((32,) * 5)
        maps = random_maps((32,) * 5, [(8, 8), (8, 8), (8, 8), (8, 8), (16, 16)])
        efficient, reference = bfloat16_errors(head, lambda m, x: m(x, (64, 64)), maps)
        assert efficient <= 1.5 * reference

    def test_parameters(self):
        assert sum(p.numel() for p in Head((256,) * 5, 19).parameters()) == 5 * 256 * 19 + 19


MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NUM_CLASSES, CHANNELS = 5, 8
KINDS = [(None, None), *itertools.product(map(FUSIONS.__getitem__, FUSIONS), map(PYRAMIDS.__getitem__, PYRAMIDS))]
all_kinds = pytest.mark.parametrize(("fusion", "pyramid"), KINDS)


class NarrowPooling(PyramidPooling):
    """Pyramid pooling to 12 channels."""

    def __init__(self, in_channels):
        super().__init__(in_channels)
        conv = self.project.conv
        self.out_channels = conv.out_channels = 12
        conv.weight = nn.Parameter(conv.weight[:12].detach().clone())
        self.project.norm = type(self.project.norm)(12)


def built(fusion=GatedFullyFusion, pyramid=DenseFeaturePyramid, mean=MEAN, std=STD):
    """A network of few channels with random weights, in float64 and evaluation."""
    backbone = StubBackbone(len(mean))
    context = NarrowPooling(backbone.channels[-1])
    channels = (context.out_channels,)
    if fusion is not None:
        fusion = fusion(
            (*backbone.channels, context.out_channels) if fusion.takes_context else backbone.channels, CHANNELS
        )
        pyramid = pyramid(CHANNELS if fusion.takes_context else context.out_channels, 4, CHANNELS)
        channels = pyramid.out_channels
    return naive.randomized(
        SegmentationModel(backbone, context, fusion, pyramid, Head(channels, NUM_CLASSES), mean, std)
    )


def images(height=37, width=50, batch=2, channels=3):
    return torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8)


def normalized(image, mean=MEAN, std=STD):
    """In float64."""
    return torch.stack([(image[:, c].double() - mean[c]) / std[c] for c in range(image.shape[1])], dim=1)


@all_kinds
def test_forward_is_the_paper_s_figure_3(fusion, pyramid):
    network, image = built(fusion, pyramid), images()
    x = network.backbone(normalized(image))
    y0, gates = network.context(x[-1]), None
    if fusion is None:
        maps = [y0]
    elif fusion in (FPN, GatedFPN):
        gates = network.fusion.gates([*x, y0])
        *fused, y0 = network.fusion([*x, y0])
        maps = network.pyramid(y0, fused)
    else:
        gates = network.fusion.gates(x)
        maps = network.pyramid(y0, network.fusion(x))
    assert_equal(network(image), Output(network.head(maps, (37, 50)), gates))


def test_gffnet_on_one_page():
    """Pyramid pooling, Eq. (5), Eq. (6), the head: from the image to the logits by the parameters alone."""
    network, image = built(), images()
    x = [naive.conv(layer, F.avg_pool2d(normalized(image), s, ceil_mode=True)) for layer, s in
         zip(network.backbone.layers, (4, 8, 8, 8), strict=True)]  # fmt: skip
    pooling, fusion, pyramid, head = network.context, network.fusion, network.pyramid, network.head
    pooled = [naive.block(h, F.adaptive_avg_pool2d(x[3], b)) for h, b in zip(pooling.branches, (1, 2, 3, 6))]  # noqa: B905
    y0 = naive.block(pooling.project, naive.resized_cat([x[3], *pooled], x[3].shape[-2:]))
    gates = [torch.sigmoid(naive.conv(fusion.gate_convs[i], x[i])) for i in range(4)]
    r = [naive.block(fusion.reductions[i], x[i]) for i in range(4)]
    fused = []
    for i in range(4):
        received = sum(naive.resize(gates[j] * r[j], r[i].shape[-2:]) for j in range(4) if j != i)
        mixed = (1 + gates[i]) * r[i] + (1 - gates[i]) * received
        fused.append(naive.blocks(fusion.refinements[i], mixed))
    y = [naive.block(pyramid.reduce_context, y0)]
    for i in range(1, 5):
        y.append(naive.block(pyramid.blocks[i - 1], naive.resized_cat([*y, fused[4 - i]], fused[4 - i].shape[-2:])))
    logits = naive.conv(head.classifier, naive.resized_cat(y, fused[0].shape[-2:]))
    assert_equal(network(image), Output(naive.resize(logits, (37, 50)), gates))


@all_kinds
@pytest.mark.parametrize("size", [(37, 50), (1, 1)])
def test_logits_have_the_size_of_the_image(fusion, pyramid, size):
    network = built(fusion, pyramid)
    output = network(images(*size))
    assert output.logits.shape == (2, NUM_CLASSES, *size)
    if fusion not in (GatedFPN, GatedFullyFusion):
        assert output.gates is None
    else:
        levels = [(-(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 8, 8, 8)]
        assert [tuple(g.shape) for g in output.gates] == [(2, 1, *level) for level in levels[: len(output.gates)]]
        assert len(output.gates) == (5 if fusion is GatedFPN else 4)


@all_kinds
def test_training_returns_the_same_type_as_evaluation(fusion, pyramid):
    """One type of output; with a batch of one image as well."""
    network = built(fusion, pyramid).train()
    output = network(images(batch=1))
    assert type(output) is Output
    assert output.logits.shape == (1, NUM_CLASSES, 37, 50)
    assert (output.gates is None) == (fusion not in (GatedFPN, GatedFullyFusion))


@pytest.mark.parametrize(("fusion", "pyramid"), KINDS[1:])
def test_training_reaches_every_parameter(fusion, pyramid):
    network = built(fusion, pyramid).train()
    logits = network(images()).logits
    (logits * torch.randn_like(logits)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@all_kinds
def test_reference_and_efficient_agree_with_their_gradients(fusion, pyramid):
    network, image = built(fusion, pyramid), images().double()
    assert_implementations_agree(network, lambda m: m(image).logits, [image])


@all_kinds
def test_bfloat16_error_is_close_to_that_of_the_reference(fusion, pyramid):
    network, image = built(fusion, pyramid), images(128, 128)

    def logits(m, inputs):
        return m(image).logits

    efficient, reference = bfloat16_errors(network, logits, [])
    assert efficient <= 1.25 * reference


def test_edited_gates_change_the_logits():
    """Encode once, close each gate in turn."""
    network, image = built(), images()
    encoded, whole = network.encode(image), network(image)
    assert (encoded.size, encoded.input_size) == ((37, 50), (37, 50))
    assert_equal(encoded.gates, whole.gates)
    assert_equal(network.decode(encoded), whole.logits)
    for level in range(4):
        closed = [torch.zeros_like(g) if i == level else g for i, g in enumerate(encoded.gates)]
        assert not torch.allclose(network.decode(encoded, closed), whole.logits)
    assert_equal(network.decode(encoded, encoded.gates), whole.logits)


def test_logits_have_the_size_that_is_asked_for():
    network, image = built(), images()
    encoded = network.encode(image)
    assert network.decode(encoded._replace(size=(70, 99))).shape == (2, NUM_CLASSES, 70, 99)


def test_without_fusion_there_is_nothing_to_fuse():
    encoded = built(None, None).encode(images())
    assert (encoded.reduced, encoded.gates) == (None, None)


@pytest.mark.parametrize("fusion", [FPN, GatedFPN])
def test_the_fused_context_map_replaces_the_context_map(fusion):
    """What follows the fusion receives `y_0` only through the refinement of the fusion."""
    network = built(fusion)
    encoded = network.encode(images())
    assert len(encoded.reduced) == 5
    other = encoded._replace(context=torch.randn_like(encoded.context))
    assert_equal(network.decode(encoded), network.decode(other))


@pytest.mark.parametrize("fusion", [Concat, Addition, GatedFullyFusion])
def test_other_fusions_do_not_use_the_context_map(fusion):
    network, image = built(fusion), images()
    maps, context = network.features(image)
    encoded, other = (network.reduce(maps, y0, (37, 50)) for y0 in (context, torch.randn_like(context)))
    assert_equal((encoded.reduced, encoded.gates), (other.reduced, other.gates))


def test_images_of_a_batch_are_independent():
    network, image = built(), images(batch=3)
    together = network(image)
    for i in range(3):
        assert_equal(network(image[i : i + 1]).logits, together.logits[i : i + 1])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_bytes_and_floats_are_the_same_image(dtype):
    network, image = built(), images()
    assert_equal(network.normalize(image.to(dtype)), normalized(image))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_normalising_leaves_the_image_and_its_layout_as_they_are(dtype, layout):
    network, image = built(), images().to(dtype).contiguous(memory_format=layout)
    before = image.clone()
    assert network.normalize(image).is_contiguous(memory_format=layout)
    assert torch.equal(image, before)


def test_an_image_may_have_any_number_of_channels():
    mean, std = (10.0, 20.0, 30.0, 40.0, 50.0), (1.0, 2.0, 3.0, 4.0, 5.0)
    network, image = built(mean=mean, std=std), images(channels=5)
    assert_equal(network.normalize(image), normalized(image, mean, std))
    assert network(image).logits.shape == (2, NUM_CLASSES, 37, 50)


def test_a_bfloat16_network_normalises_finely_and_rounds_once():
    network, image = built().bfloat16(), images()
    got = network.normalize(image)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, normalized(image).float().bfloat16())
    coarse = (image.bfloat16() - torch.tensor(MEAN).bfloat16()[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert not torch.equal(got, coarse.bfloat16())
    assert network(image).logits.dtype == torch.bfloat16


def test_mean_and_deviation_are_no_part_of_the_weights():
    names = built().state_dict()
    assert {name.split(".")[0] for name in names} == {"backbone", "context", "fusion", "pyramid", "head"}


def test_the_reference_can_be_selected_for_the_whole_network():
    network = built()
    use_reference(network)
    references = {name: part.reference for name, part in network.named_modules() if hasattr(part, "reference")}
    blocks = {f"pyramid.blocks.{i}.conv" for i in range(4)}
    assert set(references) == {"context", "context.project.conv", "fusion.sum", *blocks, "head.classifier"}
    assert all(references.values())


BACKBONE_CHANNELS = (32, 64, 128, 1024)
COMBINATIONS = [
    (context, fusion, pyramid)
    for context, fusion, pyramid in itertools.product(CONTEXTS, ["none", *FUSIONS], PYRAMIDS)
    if fusion != "none" or pyramid == "none"
]


@pytest.fixture
def _stub(monkeypatch):
    """Networks get a backbone of few channels."""
    monkeypatch.setattr(
        "gffnet.models.gffnet.build_backbone", lambda recipe: StubBackbone(recipe.in_channels, BACKBONE_CHANNELS)
    )


def test_every_name_of_a_recipe_is_registered():
    assert set(CONTEXTS) == set(names("context"))
    assert {"none", *FUSIONS} == set(names("fusion"))
    assert set(PYRAMIDS) == set(names("pyramid"))


@pytest.mark.slow
@pytest.mark.usefixtures("_stub")
@pytest.mark.parametrize(("context", "fusion", "pyramid"), COMBINATIONS)
def test_every_combination_builds_and_runs_without_memory(context, fusion, pyramid):
    recipe = ModelRecipe(context=context, fusion=fusion, dense_pyramid=pyramid)
    with torch.device("meta"):
        network = build_network(recipe, num_classes=7)
        output = network(torch.zeros(2, 3, 40, 56))
    assert all(p.is_meta for p in network.parameters())
    assert output.logits.shape == (2, 7, 40, 56)
    assert type(network.context) is CONTEXTS[context]
    assert type(network.fusion) is (type(None) if fusion == "none" else FUSIONS[fusion])
    assert type(network.pyramid) is (type(None) if fusion == "none" else PYRAMIDS[pyramid])


@pytest.mark.usefixtures("_stub")
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("pyramid", PYRAMIDS)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("gate_channels", ["one", "each"])
def test_options_reach_the_variants_that_have_them(fusion, pyramid, kernel, gate_channels):
    recipe = ModelRecipe(fusion=fusion, dense_pyramid=pyramid, pyramid_kernel=kernel, gate_channels=gate_channels)
    with torch.device("meta"):
        network = build_network(recipe, num_classes=7)
    if isinstance(network.fusion, GatedFusion):
        assert {conv.out_channels for conv in network.fusion.gate_convs} == {1 if gate_channels == "one" else 256}
    if pyramid != "none":
        assert {block.conv.kernel_size for block in network.pyramid.blocks} == {(kernel, kernel)}


@pytest.mark.usefixtures("_stub")
def test_mean_deviation_dropout_and_channels_reach_the_network():
    recipe = ModelRecipe(
        BackboneRecipe(in_channels=2), mean=(1.0, 2.0), std=(3.0, 4.0), dropout=0.3, fusion="gff", dense_pyramid="dense"
    )
    network = build_network(recipe, num_classes=3)
    assert (network.mean, network.std) == ((1.0, 2.0), (3.0, 4.0))
    assert network.head.dropout.p == 0.3
    assert network(torch.zeros(2, 2, 16, 16)).logits.shape == (2, 3, 16, 16)


def without(state, *parts):
    return {name: value for name, value in state.items() if name.split(".")[0] not in parts}


@pytest.mark.usefixtures("_stub")
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_trained_context_loads_unchanged_into_every_fusion_network(context):
    trained = build_network(ModelRecipe(context=context), num_classes=7)
    start = without(trained.state_dict(), "head")
    assert {name.split(".")[0] for name in start} == {"backbone", "context"}
    for fusion, pyramid in (("concat", "none"), ("gated_fpn", "dense"), ("gff", "literal")):
        network = build_network(ModelRecipe(context=context, fusion=fusion, dense_pyramid=pyramid), num_classes=7)
        common = without(network.state_dict(), "fusion", "pyramid", "head")
        assert {name: v.shape for name, v in common.items()} == {name: v.shape for name, v in start.items()}
        assert network.load_state_dict(start, strict=False).unexpected_keys == []
        assert_equal(without(network.state_dict(), "fusion", "pyramid", "head"), start, 0)


@pytest.mark.parametrize("pyramid", ["dense", "literal"])
def test_a_dense_pyramid_without_a_fusion_is_refused(pyramid):
    with pytest.raises(UserError, match=r"model\.dense_pyramid .*model\.fusion is 'none'.*name a fusion"):
        build_network(ModelRecipe(dense_pyramid=pyramid), num_classes=7)


def parameters(name):
    recipe = load_recipe(name).model
    with torch.device("meta"):
        network = build_network(replace(recipe, backbone=replace(recipe.backbone, weights="none")), num_classes=19)
    return sum(p.numel() for p in network.parameters())


def test_parameters_of_table_3():
    """PSPNet as in the paper, 65.6 M. GFF: reductions, 3x3 convolutions, gates, and the maps added to the head."""
    pspnet = parameters("cityscapes/pspnet_r101")
    gff = parameters("cityscapes/pspnet_r101_gff")
    gffnet = parameters("cityscapes/gffnet_r101")
    norm, heads = 2 * 256, 19 * (5 * 256 - 512)
    assert round(pspnet / 1e6, 2) == 65.58
    assert gff - pspnet == 5_711_620 + (512 * 256 + norm) + heads
    assert gffnet - gff == 14 * 256 * 256 + 4 * norm
