import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from gffnet.analysis.report import Example, Report, write_report
from gffnet.errors import UserError

CLASSES = ("road", "<b>&", 'say "x"')
PALETTE = ((128, 64, 128), (0, 200, 0), (9, 9, 9))
SIZE = (24, 40)
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """The page's tags, checked for balance, and its text."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(source)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice: {names}"
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def headings(self):
        return [attributes["id"] for attributes in self.all("h2")]


def example(**changes):
    image = np.arange(SIZE[0] * SIZE[1] * 3, dtype=np.uint8).reshape(*SIZE, 3)
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 20:] = 1
    labels[0] = 255
    prediction = np.zeros(SIZE, np.uint8)
    prediction[:, 22:] = 1
    gate = np.full(SIZE, 0.25, np.float32)
    closed = [(level, labels == 1, 0.25) for level in (1, 2)]
    values = {"name": "scene <1>", "image": image, "labels": labels, "prediction": prediction}
    return Example(**{**values, "gates": (gate, 1 - gate), "closed": closed, **changes})


def scores(shift=0.0):
    return {
        "miou": 0.5 + shift,
        "pixel_accuracy": 0.75 + shift,
        "per_class": {"road": 0.9 + shift, "<b>&": 0.1, 'say "x"': None},
        "images": 3,
        "images_per_second": 4.25,
        "pixels": 2880,
        "protocol": {"crop": (16, 24), "overlap": 1 / 3, "scales": (0.75, 1.0), "flip": True, "device": "<cpu>"},
    }


COST = [
    {
        **{"recipe": f"r{i}", "height": 64, "width": 96, "params": 1e6 * (1 + i), "macs": 2e9, "executed_macs": 1.5e9},
        **{"params_increase_percent": 100.0 * i, "macs_increase_percent": 0.0, "executed_macs_increase_percent": -25.0},
    }
    for i in range(2)
]
HISTORY = [
    {"iteration": 10, "loss": 2.0, "auxiliary_loss": 3.0, "learning_rate": 0.1, "images_per_second": 9.0},
    {"iteration": 20, "loss": 1.0, "auxiliary_loss": 2.0, "learning_rate": 0.05, "images_per_second": 9.0},
    {"iteration": 20, "miou": 0.5, "pixel_accuracy": 0.8, "iou": [0.9, 0.1, None], "seconds": 1.0},
]
FULL = Report(
    title="A run & <script>alert(1)</script>",
    summary=[("recipe", "x/<y>"), ("precision", "bfloat16: the CPU has AMX")],
    history=HISTORY,
    scores=scores(0.1),
    examples=[example()],
    classes=CLASSES,
    palette=PALETTE,
    baseline=scores(),
    baseline_name="PSP<Net>",
    cost=COST,
)


@pytest.fixture
def render(tmp_path):
    def rendered(report):
        path = tmp_path / "folder" / "report.html"
        write_report(path, report)
        assert [p.name for p in path.parent.iterdir()] == ["report.html"]
        return path.read_text(encoding="utf-8")

    return rendered


def test_the_page_is_whole(render):
    page = Page(render(FULL))
    assert page.headings() == ["examples", "scores", "training", "cost", "protocol"]
    assert page.all("html") == [{"lang": "en"}]
    text = " ".join(page.text.split())
    for expected in ("60.0%", "+10.0 points over PSP<Net>", "4.25", "bfloat16: the CPU has AMX", "G1, mean 0.25"):
        assert expected in text
    assert "16 x 24 pixels" in text
    assert "overlap0.333" in text
    assert "scales0.75, 1.0" in text


def test_nothing_is_loaded(render):
    source = render(FULL)
    assert not re.search(r"https?:|@import|url\(|<script|<link|<iframe|\bon\w+=", source.replace("&lt;script", ""))
    page = Page(source)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            if name in attributes:
                assert attributes[name].startswith("data:image/"), (tag, name)
    assert len(page.all("img")) == 4 + 2 + 2


def test_every_picture_has_words_and_a_size(render):
    page = Page(render(FULL))
    for picture in page.all("img"):
        assert "scene <1>" in picture["alt"]
        assert (int(picture["width"]), int(picture["height"])) == (SIZE[1], SIZE[0])
    charts = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert (
        charts[0]["aria-label"]
        == "Training loss over iterations, up to 20: loss from 2 to 1; auxiliary loss from 3 to 2."
    )
    assert charts[1]["aria-label"].startswith("Validation over iterations, up to 20: mean IoU from 50 to 50")


def test_every_string_is_escaped(render):
    source = render(FULL)
    assert "<b>&" not in source.replace("<b>&amp;", "")
    assert source.count("&lt;b&gt;&amp;") == 2, "in the legend and among the scores"
    page = Page(source)
    assert page.text.count("<b>&") == 2
    assert "x/<y>" in page.text
    assert "<cpu>" in page.text
    assert "<script>alert(1)</script>" in page.text


def test_wrong_pixels_are_those_that_are_labelled(render):
    share = 2 * 23 / (40 * 23)
    assert f"wrong: {share:.1%}" in Page(render(FULL)).text


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"history": []}, "training"),
        ({"scores": None, "baseline": None}, "scores"),
        ({"scores": None}, "protocol"),
        ({"examples": []}, "examples"),
        ({"cost": ()}, "cost"),
    ],
)
def test_what_is_unknown_is_left_out(render, changes, gone):
    page = Page(render(dataclasses.replace(FULL, **changes)))
    assert gone not in page.headings()
    assert "None" not in page.text
    assert "nan" not in page.text


def test_without_baseline(render):
    text = Page(render(dataclasses.replace(FULL, baseline=None))).text
    assert "points" not in text
    assert "PSP<Net>" not in text


def test_without_gates_and_labels(render):
    bare = example(gates=None, closed=None, labels=None)
    page = Page(render(dataclasses.replace(FULL, examples=[bare])))
    assert len(page.all("img")) == 2
    assert "ground truth" not in page.text
    assert "gate" not in page.text


def test_gates_that_were_not_closed(render):
    page = Page(render(dataclasses.replace(FULL, examples=[example(closed=None), example(closed=[])])))
    assert len(page.all("img")) == 2 * (4 + 2)
    assert "The gates in numbers, over these 2 images" in page.text


def test_training_that_has_not_been_validated_or_has_no_auxiliary_loss(render):
    lines = [{"iteration": 1, "loss": float("nan"), "auxiliary_loss": 0.0}, {"iteration": 2, "loss": 1.0}]
    page = Page(render(dataclasses.replace(FULL, history=lines)))
    assert [c["aria-label"] for c in page.all("svg") if c.get("role")] == [
        "Training loss over iterations, up to 2: loss from 1 to 1."
    ]


def test_whole_images_have_no_overlap(render):
    protocol = {**scores()["protocol"], "crop": None}
    page = Page(render(dataclasses.replace(FULL, scores={**scores(), "protocol": protocol})))
    assert "the whole image at once" in page.text
    assert "overlap" not in page.text


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_report(tmp_path / "file" / "report.html", FULL)
