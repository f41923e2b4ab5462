"""The page of a report: whole, escaped, true to its numbers, and as a browser shows it."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gffnet.errors import UserError
from gffnet.evaluation.results import ImageScore, Result
from gffnet.gates.edit import Closing, GateResult
from gffnet.metrics.scores import ScoreAccumulator, Scores
from gffnet.reports import report as reporting
from gffnet.reports.report import LONG, Command, Example, Report, write_report
from tests.html_page import Page
from tests.reports.runs import HISTORY, RECORD

CLASSES = ("road", "<b>&", 'say "x"')
PALETTE = ((128, 64, 128), (0, 200, 0), (9, 9, 9))
SIZE = (24, 40)
Render = Callable[[Report], str]


def example(**changes: Any) -> Example:
    image = np.arange(SIZE[0] * SIZE[1] * 3, dtype=np.uint8).reshape(*SIZE, 3)
    labels = np.zeros(SIZE, np.uint8)
    labels[:, 20:] = 1
    labels[0] = 255
    prediction = np.zeros(SIZE, np.uint8)
    prediction[:, 22:] = 1
    gate = np.full(SIZE, 0.25, np.float32)
    gates = GateResult((gate, 1 - gate), prediction)
    closings = [Closing((level,), prediction, labels == 1) for level in (1, 2)]
    values = {"name": "scene <1>", "image": image, "labels": labels, "prediction": prediction}
    return Example(**{**values, "gates": gates, "closings": closings, "why": "worst of 2", "miou": 0.9, **changes})


def counted(shift: int) -> ScoreAccumulator:
    counts = ScoreAccumulator(3)
    labels = np.zeros((60, 120), np.uint8)
    labels[:, 40:] = 1
    counts.update(labels, np.roll(labels, shift, axis=1))
    return counts


def scores(shift: int) -> Scores:
    """Of one image that is predicted some pixels to the right."""
    protocol = {
        **{"dataset": "x", "split": "val", "recipe": "x/y", "crop": [16, 24], "overlap": 1 / 3, "scales": [0.75, 1.0]},
        **{"flip": True, "device": "<cpu>"},
    }
    whole = counted(shift).compute(CLASSES)
    return dataclasses.replace(whole, images=2, images_per_second=4.25, protocol=protocol)


COST = [
    {
        **{"recipe": f"r{i}", "height": 64, "width": 96, "params": 1e6 * (1 + i), "macs": 2e9, "executed_macs": 1.5e9},
        **{"params_increase_percent": 100.0 * i, "macs_increase_percent": 0.0, "executed_macs_increase_percent": -25.0},
    }
    for i in range(2)
]
RESULT = Result(
    scores(1),
    [("scene <1>", ImageScore(10, 9, 0.9)), ("b", ImageScore(10, 5, 0.5))],
    counted(1).counts["confusion"],
)
FULL = Report(
    title="A run & <script>alert(1)</script>",
    classes=CLASSES,
    palette=PALETTE,
    lede="trained <somehow>",
    summary=[("note", "x/<y>")],
    history=HISTORY,
    record=RECORD,
    result=RESULT,
    examples=[example()],
    baseline=scores(8),
    baseline_name="PSP<Net>",
    cost=COST,
    commands=[Command("Trained by", "gffnet train '<&>'")],
    recipe="model: <none>\n",
)


@pytest.fixture(autouse=True, scope="module")
def _drawn_once() -> Iterator[None]:
    """Nearly all of a page's time is that of its charts, which hardly differ between tests."""
    drawn: dict[str, Any] = {}
    draw = reporting.line_chart

    def line_chart(*arguments: Any, **options: Any) -> Any:
        key = repr((arguments, options))
        if key not in drawn:
            drawn[key] = draw(*arguments, **options)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reporting, "line_chart", line_chart)
        yield


@pytest.fixture
def render(tmp_path: Path) -> Render:
    def rendered(report: Report) -> str:
        path = tmp_path / "folder" / "report.html"
        write_report(path, report)
        assert [p.name for p in path.parent.iterdir()] == ["report.html"]
        return path.read_text(encoding="utf-8")

    return rendered


def test_the_page_is_whole(render: Render) -> None:
    page = Page(render(FULL))
    parts = ["scores", "confusion", "images", "gates", "training", "cost", "protocol", "again"]
    assert page.headings() == parts
    assert [link["href"] for link in page.all("a")] == [f"#{part}" for part in parts]
    assert page.all("html") == [{"lang": "en"}]
    identities = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identities) == len(set(identities))


def test_its_numbers_are_the_scores(render: Render) -> None:
    page, ours, theirs = Page(render(FULL)), scores(1).to_json(), scores(8).to_json()
    for key in ("miou", "pixel_accuracy", "mean_accuracy"):
        assert f"{100 * ours[key]:.1f} % +{100 * (ours[key] - theirs[key]):.1f} points over PSP<Net>" in page.words
    for name in CLASSES[:2]:
        here, there = ours["per_class"][name], theirs["per_class"][name]
        assert f"{name} {100 * here:.1f} {100 * there:.1f} +{100 * (here - there):.1f}" in page.words
    assert 'say "x" — — —' in page.words
    confused = counted(1).counts["confusion"]
    share = confused[1, 0] / confused[1].sum()
    assert f"<b>& road {100 * share:.1f} {confused[1, 0]}" in page.words
    assert "r0 1.00 2.00 1.50 r1 2.00 +100.0 2.00 0.0 1.50 −25.0" in page.words, "a baseline has no increase"
    for text in ("4.25", "16 x 24 pixels", "overlap 0.333", "scales 0.75, 1.0", "G 1 , mean 0.25", "mean IoU 90.0 %"):
        assert text in page.words


def test_nothing_is_loaded(render: Render) -> None:
    source = render(FULL)
    assert not re.search(r"https?:|@import|url\(|fetch|XMLHttp|<link|<iframe|\bon\w+=", source)
    page = Page(source)
    assert page.all("script") == [{}]
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "xlink:href"):
            if name in attributes:
                assert str(attributes[name]).startswith(("data:image/", "#")), (tag, name)
    assert len(page.all("img")) == 4 + 2 + 2


def test_every_picture_has_words_and_a_size(render: Render) -> None:
    page = Page(render(FULL))
    for picture in page.all("img"):
        assert "scene <1>" in picture["alt"]
        assert (int(picture["width"]), int(picture["height"])) == (SIZE[1], SIZE[0])
    drawn = [
        drawing["aria-label"] for _, drawing in page.tags if drawing.get("role") == "img" and "class" not in drawing
    ]
    assert [words.split()[0] for words in drawn] == ["Images", "Training", "Validation", "Learning"]
    assert any(table.get("aria-label", "").startswith("Confusion matrix of 2 classes.") for table in page.all("table"))
    for scrolled in page.all("div"):
        if scrolled.get("class") == "scroll":
            assert scrolled["tabindex"] == "0"
            assert scrolled["role"] == "region"
            assert {"aria-label", "aria-labelledby"} & scrolled.keys()


def test_every_string_is_escaped(render: Render) -> None:
    source = render(FULL)
    assert "<b>&" not in source.replace("<b>&amp;", "")
    page = Page(source)
    assert {attributes.get("class") for attributes in page.all("b")} == {None}
    for text in ("x/<y>", "<cpu>", "<script>alert(1)</script>", "trained <somehow>", "'<&>'", "<none>", "<b>&"):
        assert text in page.text


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"history": [], "record": {}}, {"training"}),
        ({"result": None, "baseline": None, "history": []}, {"scores", "confusion", "protocol"}),
        ({"result": None}, {"scores", "confusion", "protocol"}),
        ({"result": dataclasses.replace(RESULT, confusion=None)}, {"confusion"}),
        ({"examples": []}, {"gates"}),
        ({"examples": [], "result": dataclasses.replace(RESULT, images=[])}, {"images", "gates"}),
        ({"cost": ()}, {"cost"}),
        ({"commands": (), "recipe": ""}, {"again"}),
    ],
)
def test_what_is_unknown_is_left_out(render: Render, changes: dict[str, Any], gone: set[str]) -> None:
    page, whole = Page(render(dataclasses.replace(FULL, **changes))), Page(render(FULL))
    assert set(whole.headings()) - set(page.headings()) == gone
    assert len(page.all("a")) == len(page.headings())
    assert "None" not in page.text
    assert "nan" not in page.text


def test_without_an_evaluation_the_last_validation_is_shown(render: Render) -> None:
    classes = tuple(f"c{i}" for i in range(11))
    report = Report(title="r", classes=classes, palette=[(i, 0, 0) for i in range(11)], history=HISTORY)
    page = Page(render(report))
    assert page.headings() == ["scores", "training"]
    assert "the last validation in training, at iteration 4" in page.words
    assert "mean IoU 25.0 %" in page.words
    assert "c0 50.0" in page.words
    assert "last validation" not in Page(render(FULL)).text


def test_a_baseline_that_was_scored_otherwise(render: Render) -> None:
    assert "scored otherwise" not in Page(render(FULL)).text
    whole = scores(8)
    other = dataclasses.replace(whole, protocol={**whole.protocol, "flip": False})
    page = Page(render(dataclasses.replace(FULL, baseline=other)))
    assert "The baseline was scored by another protocol" in page.words
    assert "flip: yes here, no there" in page.words
    alone = Page(render(dataclasses.replace(FULL, baseline=None))).text
    assert "points" not in alone
    assert "PSP<Net>" not in alone


def test_without_gates_and_labels(render: Render) -> None:
    bare = example(gates=None, closings=[], labels=None)
    page = Page(render(dataclasses.replace(FULL, examples=[bare])))
    assert len(page.all("img")) == 2
    assert "ground truth" not in page.text
    assert "gate" not in page.text


def test_gates_that_were_not_closed(render: Render) -> None:
    page = Page(render(dataclasses.replace(FULL, examples=[example(closings=[])] * 2)))
    assert len(page.all("img")) == 2 * (4 + 2)
    assert "gates" in page.headings()


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_report(tmp_path / "file" / "report.html", FULL)


# In a browser


def many_classes() -> Report:
    """150 classes, one with a name that is one long word."""
    k = 150
    names = tuple("x" * 60 if i == 3 else f"class {i}, thing" for i in range(k))
    counts = np.random.default_rng(0).integers(0, 50, (k, k + 1)) + 2000 * np.eye(k, k + 1, dtype=np.int64)
    scoring = ScoreAccumulator(k, details=False)
    scoring.merge({"confusion": counts})
    of = scores(1)
    whole = dataclasses.replace(scoring.compute(names), protocol=of.protocol, images=of.images)
    palette = [(i, 2 * i % 256, 255 - i) for i in range(k)]
    return dataclasses.replace(
        FULL, classes=names, palette=palette, result=Result(whole, [], counts), baseline=whole, title="y" * 100
    )


@pytest.mark.parametrize("report", [FULL, many_classes()], ids=["few", "many"])
@pytest.mark.parametrize(
    ("width", "scheme", "media"),
    [
        (390, "light", "screen"),
        pytest.param(1280, "light", "screen", marks=pytest.mark.slow),
        (1280, "dark", "screen"),
        (720, "light", "print"),
    ],
)
def test_it_fits_and_loads_nothing(
    width: int, scheme: Any, media: Any, report: Report, browser: Any, render: Render, tmp_path: Path
) -> None:
    render(report)
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    messages, asked = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "folder/report.html").as_uri())
    page.emulate_media(media=media)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].filter(i => !i.complete || i.naturalWidth === 0).length") == 0
    beyond = (
        "[...document.querySelectorAll('figcaption, h1, h3, dd, p')].filter(e => e.scrollWidth > e.clientWidth + 1)"
    )
    assert page.evaluate(f"{beyond}.map(e => e.outerHTML)") == []
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back)[:3])) < 200) == (scheme == "dark")
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display === 'none'") == (media == "print")
    assert messages == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert sum(url.startswith("file:") for url in asked) == 1
    page.close()


def test_many_classes_are_laid_out_in_columns(render: Render) -> None:
    page = Page(render(many_classes()))
    tables = [div for div in page.all("div") if div.get("aria-label") == "By class"]
    assert len(tables) == -(-150 // LONG)
    (picture,) = [picture for picture in page.all("img") if "Confusion matrix" in picture["alt"]]
    assert (picture["width"], picture["height"]) == ("150", "150")


@pytest.fixture
def opened(render: Render, browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The page in a browser, in which no error occurs."""
    render(dataclasses.replace(FULL, examples=[example(), example(name="b")]))
    page = browser.new_page(viewport={"width": 390, "height": 700})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "folder/report.html").as_uri())
    yield page
    page.close()
    assert errors == []


def column(page: Any, table: str, number: int) -> list[str]:
    cells: list[str] = page.locator(f"{table} tbody tr > :nth-child({number})").all_inner_texts()
    return [cell.strip() for cell in cells]


def test_tables_are_sorted_by_their_headings(opened: Any) -> None:
    """By click or key; undefined scores are last; the third time, the order is the first again."""
    table = '[aria-label="By class"] table'
    names, values = column(opened, table, 1), column(opened, table, 3)
    assert values[2] == "—"
    heading = opened.locator(f"{table} thead th").nth(1)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert column(opened, table, 3) == [*sorted(values[:2], key=float, reverse=True), "—"]
    opened.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(opened, table, 3) == [*sorted(values[:2], key=float), "—"]
    opened.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "none"
    assert column(opened, table, 1) == names
    opened.locator(f"{table} thead th").nth(0).get_by_role("button").click()
    assert column(opened, table, 1) == sorted(names, key=str.casefold)
    assert opened.locator("[aria-sort]").count() == 1


def test_tables_in_columns_are_sorted_as_one(render: Render, browser: Any, tmp_path: Path) -> None:
    render(many_classes())
    page = browser.new_page()
    page.goto((tmp_path / "folder/report.html").as_uri())
    table = '[aria-label="By class"] table'
    values = column(page, table, 3)
    page.locator(f"{table} thead th:nth-child(3) button").nth(4).click()
    assert column(page, table, 3) == sorted(values, key=float, reverse=True)
    page.close()


def test_pictures_fill_the_window(opened: Any) -> None:
    """Those of one example, one after the other; escape closes, and the keyboard is where it was."""
    pictures = opened.locator(".row img")
    opened.get_by_role("button", name="Ground truth of scene").click()
    shown = opened.locator("dialog img")
    assert shown.get_attribute("src") == pictures.nth(1).get_attribute("src")
    assert opened.locator("dialog figcaption").inner_text() == "ground truth (2 of 8)"
    box = shown.bounding_box()
    assert box["width"] == pytest.approx(390 - 32, abs=1)
    assert box["width"] / box["height"] == pytest.approx(SIZE[1] / SIZE[0], rel=0.01)
    for key, number in (("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", 0), ("ArrowLeft", 7)):
        opened.keyboard.press(key)
        assert shown.get_attribute("src") == pictures.nth(number).get_attribute("src")
    opened.get_by_role("button", name="Next picture").click()
    assert shown.get_attribute("src") == pictures.nth(0).get_attribute("src")
    opened.keyboard.press("Escape")
    assert opened.locator("dialog").is_hidden()
    assert opened.evaluate("document.activeElement.querySelector('img').alt") == "Ground truth of scene <1>."


def test_charts_tell_their_values(opened: Any) -> None:
    """Under the pointer and by the arrow keys; marks lie on the curve."""
    plot = opened.locator(".plot").nth(1)
    values = plot.locator("output")
    assert values.is_hidden()
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    opened.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] / 2)
    last = [line for line in HISTORY if "loss" in line][-1]
    told = f"iteration {last['iteration']}\nloss {last['loss']:g}\nauxiliary loss {last['auxiliary_loss']:g}"
    assert values.text_content() == told
    curve = plot.locator("path[style*='--one']").first.bounding_box()
    dot = plot.locator(".dot-1").bounding_box()
    assert dot["x"] + dot["width"] / 2 == pytest.approx(curve["x"] + curve["width"], abs=2.5)
    opened.mouse.move(0, 0)
    assert values.is_hidden()
    plot.focus()
    opened.keyboard.press("Home")
    assert values.text_content().startswith("iteration 2\nloss 2\n")
    opened.keyboard.press("ArrowRight")
    assert values.text_content().startswith("iteration 4\n")
    opened.keyboard.press("Escape")
    assert values.is_hidden()


def test_navigation_stays_and_fits_a_phone(opened: Any) -> None:
    for name, part in (("Cost", "cost"), ("Reproduce", "again"), ("Scores", "scores")):
        link = opened.get_by_role("link", name=name, exact=True)
        link.press("Enter")  # unlike a click, it hits the link while the bar scrolls
        opened.wait_for_function("name => document.querySelector('[aria-current]')?.textContent === name", arg=name)
        box = link.bounding_box()
        assert box["height"] >= 40
        opened.wait_for_function("""() => {
            const box = document.querySelector("[aria-current]").getBoundingClientRect();
            return box.left >= 0 && box.right <= 390 && box.top >= 0 && box.bottom < 60; }""")
        assert opened.locator(f"#{part}").bounding_box()["y"] >= box["height"] - 1


LUMINANCE = """
(rgb) => { const f = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
           return 0.2126 * f(rgb[0]) + 0.7152 * f(rgb[1]) + 0.0722 * f(rgb[2]); }
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out(scheme: Any, browser: Any, render: Render, tmp_path: Path) -> None:
    """Against what is behind it, by 4.5 to 1 (WCAG AA), the numbers of the confusion matrix included."""
    render(FULL)
    page = browser.new_page(color_scheme=scheme)
    page.goto((tmp_path / "folder/report.html").as_uri())
    contrasts = page.evaluate(
        """() => {
        const luminance = """
        + LUMINANCE
        + """;
        const parse = text => (text.match(/[\\d.]+/g) || []).map(Number);
        const over = (top, alpha, under) => top.map((c, i) => alpha * c + (1 - alpha) * under[i]);
        const behind = element => {
            const [r, g, b, alpha = 1] = parse(getComputedStyle(element).backgroundColor);
            return alpha === 1 ? [r, g, b] : over([r, g, b], alpha, behind(element.parentElement));
        };
        const found = [];
        for (const element of document.querySelectorAll('body *')) {
            const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
            if (!own || !element.getClientRects().length || element.tagName === 'title') continue;
            const style = getComputedStyle(element);
            const front = parse(element instanceof SVGElement ? style.fill : style.color).slice(0, 3);
            const [a, b] = [luminance(front), luminance(behind(element))].sort((x, y) => y - x);
            found.push([(a + 0.05) / (b + 0.05), element.outerHTML.slice(0, 80)]);
        }
        return found;
    }"""
    )
    assert len(contrasts) > 100
    assert [found for found in contrasts if found[0] < 4.5] == []
    page.close()
