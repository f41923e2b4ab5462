import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gffnet.models.context import PyramidPooling
from gffnet.models.fusion import FPN, Addition, Concat, GatedFPN, GatedFullyFusion
from gffnet.models.gffnet import Head, SegmentationModel
from gffnet.models.layers import Output
from gffnet.models.ops import use_reference
from gffnet.models.pyramid import DenseFeaturePyramid, FeaturePyramid, LiteralDensePyramid
from tests.models import naive
from tests.models.naive import assert_equal, assert_forms_agree, bfloat16_errors
from tests.models.stub import StubBackbone

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CLASSES, CHANNELS = 5, 8
FUSIONS = [Concat, Addition, FPN, GatedFPN, GatedFullyFusion]
PYRAMIDS = [FeaturePyramid, DenseFeaturePyramid, LiteralDensePyramid]
COMBINATIONS = [(None, None), *itertools.product(FUSIONS, PYRAMIDS)]
combinations = pytest.mark.parametrize(("fusion", "pyramid"), COMBINATIONS)


class NarrowPooling(PyramidPooling):
    """Pyramid pooling to 12 channels."""

    def __init__(self, in_width):
        super().__init__(in_width)
        conv = self.project.conv
        self.width = conv.out_channels = 12
        conv.weight = nn.Parameter(conv.weight[:12].detach().clone())
        self.project.norm = type(self.project.norm)(12)


def built(fusion=GatedFullyFusion, pyramid=DenseFeaturePyramid, mean=MEAN, std=STD):
    """A network of few channels with random weights, in float64 and evaluation."""
    backbone = StubBackbone(len(mean))
    context = NarrowPooling(backbone.widths[-1])
    widths = (context.width,)
    if fusion is not None:
        fusion = fusion((*backbone.widths, context.width) if fusion.takes_context else backbone.widths, CHANNELS)
        pyramid = pyramid(CHANNELS if fusion.takes_context else context.width, 4, CHANNELS)
        widths = pyramid.widths
    return naive.randomised(SegmentationModel(backbone, context, fusion, pyramid, Head(widths, CLASSES), mean, std))


def images(height=37, width=50, batch=2, channels=3):
    return torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8)


def normalised(image, mean=MEAN, std=STD):
    """In float64."""
    return torch.stack([(image[:, c].double() - mean[c]) / std[c] for c in range(image.shape[1])], dim=1)


@combinations
def test_forward_is_the_paper_s_figure_3(fusion, pyramid):
    network, image = built(fusion, pyramid), images()
    x = network.backbone(normalised(image))
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
    x = [naive.conv(layer, F.avg_pool2d(normalised(image), s, ceil_mode=True)) for layer, s in
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


@combinations
@pytest.mark.parametrize("size", [(32, 48), (37, 50), (1, 1), (3, 65)])
def test_logits_have_the_size_of_the_image(fusion, pyramid, size):
    network = built(fusion, pyramid)
    output = network(images(*size))
    assert output.logits.shape == (2, CLASSES, *size)
    if fusion not in (GatedFPN, GatedFullyFusion):
        assert output.gates is None
    else:
        levels = [(-(-size[0] // s), -(-size[1] // s)) for s in (4, 8, 8, 8, 8)]
        assert [tuple(g.shape) for g in output.gates] == [(2, 1, *level) for level in levels[: len(output.gates)]]
        assert len(output.gates) == (5 if fusion is GatedFPN else 4)


@combinations
def test_training_answers_as_evaluation_does(fusion, pyramid):
    """One type of output; with a batch of one image as well."""
    network = built(fusion, pyramid).train()
    output = network(images(batch=1))
    assert type(output) is Output
    assert output.logits.shape == (1, CLASSES, 37, 50)
    assert (output.gates is None) == (fusion not in (GatedFPN, GatedFullyFusion))


@pytest.mark.parametrize(("fusion", "pyramid"), COMBINATIONS[1:])
def test_training_reaches_every_parameter(fusion, pyramid):
    network = built(fusion, pyramid).train()
    logits = network(images()).logits
    (logits * torch.randn_like(logits)).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@combinations
def test_both_forms_and_their_gradients_agree(fusion, pyramid):
    network, image = built(fusion, pyramid), images().double()
    assert_forms_agree(network, lambda m: m(image).logits, [image])


@combinations
def test_bfloat16_error_is_near_the_plain_form_s(fusion, pyramid):
    network, image = built(fusion, pyramid), images(128, 128)

    def logits(m, inputs):
        return m(image).logits

    cheap, plain = bfloat16_errors(network, logits, [])
    assert cheap <= 1.25 * plain


def test_edited_gates_change_the_logits_and_nothing_else_need_run():
    """Encode once, close each gate in turn: what the gate explorer does."""
    network, image = built(), images()
    x = network.backbone(network.normalise(image))
    y0 = network.context(x[-1])
    reduced, gates = network.encode(x, y0)
    whole = network(image)
    assert_equal(gates, whole.gates)
    assert_equal(network.assemble(reduced, gates, y0, (37, 50)), whole.logits)
    for level in range(4):
        closed = [torch.zeros_like(g) if i == level else g for i, g in enumerate(gates)]
        assert not torch.allclose(network.assemble(reduced, closed, y0, (37, 50)), whole.logits)
    assert_equal(network.assemble(reduced, gates, y0, (37, 50)), whole.logits)


@pytest.mark.parametrize("fusion", [FPN, GatedFPN])
def test_the_fused_context_map_replaces_the_context_map(fusion):
    """What follows the fusion sees `y_0` through the fusion's refinement only."""
    network, image = built(fusion), images()
    x = network.backbone(network.normalise(image))
    y0 = network.context(x[-1])
    reduced, gates = network.encode(x, y0)
    assert len(reduced) == 5
    other = torch.randn_like(y0)
    assert_equal(network.assemble(reduced, gates, y0, (37, 50)), network.assemble(reduced, gates, other, (37, 50)))


@pytest.mark.parametrize("fusion", [Concat, Addition, GatedFullyFusion])
def test_other_fusions_leave_the_context_map_alone(fusion):
    network, image = built(fusion), images()
    x = network.backbone(network.normalise(image))
    y0 = network.context(x[-1])
    assert_equal(network.encode(x, y0), network.encode(x, torch.randn_like(y0)))


def test_images_of_a_batch_do_not_touch_each_other():
    network, image = built(), images(batch=3)
    together = network(image)
    for i in range(3):
        assert_equal(network(image[i : i + 1]).logits, together.logits[i : i + 1])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_bytes_and_floats_are_the_same_image(dtype):
    network, image = built(), images()
    assert_equal(network.normalise(image.to(dtype)), normalised(image))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_normalising_leaves_the_image_and_its_layout_as_they_are(dtype, layout):
    network, image = built(), images().to(dtype).contiguous(memory_format=layout)
    before = image.clone()
    assert network.normalise(image).is_contiguous(memory_format=layout)
    assert torch.equal(image, before)


def test_an_image_may_have_any_number_of_channels():
    mean, std = (10.0, 20.0, 30.0, 40.0, 50.0), (1.0, 2.0, 3.0, 4.0, 5.0)
    network, image = built(mean=mean, std=std), images(channels=5)
    assert_equal(network.normalise(image), normalised(image, mean, std))
    assert network(image).logits.shape == (2, CLASSES, 37, 50)


def test_a_bfloat16_network_normalises_finely_and_rounds_once():
    network, image = built().bfloat16(), images()
    got = network.normalise(image)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, normalised(image).float().bfloat16())
    coarse = (image.bfloat16() - torch.tensor(MEAN).bfloat16()[:, None, None]) / torch.tensor(STD)[:, None, None]
    assert not torch.equal(got, coarse.bfloat16())
    assert network(image).logits.dtype == torch.bfloat16


def test_mean_and_deviation_are_no_part_of_the_weights():
    names = built().state_dict()
    assert {name.split(".")[0] for name in names} == {"backbone", "context", "fusion", "pyramid", "head"}


def test_the_form_can_be_set_for_the_whole_network():
    network = built()
    use_reference(network)
    forms = {name: part.plain for name, part in network.named_modules() if hasattr(part, "plain")}
    blocks = {f"pyramid.blocks.{i}.conv" for i in range(4)}
    assert set(forms) == {"context", "context.project.conv", "fusion.sum", *blocks, "head.classifier"}
    assert all(forms.values())
