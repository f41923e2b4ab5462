"""The page in a browser, served by the command with a tiny network."""

import base64
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from gffnet.app.session import MAX_SESSIONS, open_session
from gffnet.data.camvid import CAMVID
from gffnet.data.colors import highlight, overlay
from gffnet.gates.edit import GateEdit, gate_map
from gffnet.gates.figures import color_table, gate_colors
from tests import tiny
from tests.app import gated, hostile

pytest.importorskip("starlette", reason="starlette is not installed: pip install 'gffnet[explore]'")

READ_CANVAS = """name => {
    const canvas = document.querySelector(`canvas#${name}`);
    const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    return [canvas.height, canvas.width, btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""))];
}"""


JSON = {"Content-Type": "application/json"}

LOCAL_ONLY = """
import os, sys

def watch(event, arguments):
    if event == "socket.connect" and arguments[1][0] != "127.0.0.1" or event == "socket.getaddrinfo":
        print("a connection to", arguments, file=sys.stderr, flush=True)
        os._exit(99)

sys.addaudithook(watch)
from gffnet.cli.main import main
sys.exit(main())
"""
"""The command line, in a process that exits as soon as it connects to another machine or looks up a name."""


DESKTOP = {"viewport": {"width": 1440, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


class Page:
    """A tab with the page; records its requests and console errors."""

    def __init__(self, browser, url, screen=DESKTOP):
        self.tab = browser.new_page(**screen)
        self.requests, self.errors = [], []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.goto(url)
        self.wait(0)  # an example is opened at once

    def shown(self):
        return int(self.tab.get_attribute("main", "data-shown"))

    def wait(self, since):
        """Wait for an exact picture that is newer than the `since`-th."""
        self.tab.wait_for_function(
            "n => { const d = document.querySelector('main').dataset; return d.shown > n && d.state == 'exact'; }",
            arg=since,
        )

    def upload(self, content, name="image.png"):
        since = self.shown()
        self.tab.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})
        self.wait(since)

    def click(self, selector):
        """Click what sends a request and wait for its result."""
        since = self.shown()
        self.tab.click(selector)
        self.wait(since)

    def choose(self, selector, value):
        """Select an option that sends a request and wait for its result."""
        since = self.shown()
        self.tab.select_option(selector, value)
        self.wait(since)

    def drag(self, level, values):
        """Drag a slider over values faster than they can be answered, then release it."""
        since = self.shown()
        self.tab.evaluate(
            """([level, values]) => {
                const slider = document.querySelector(`input[data-gate="${level}"]`);
                for (const value of values) { slider.value = value; slider.dispatchEvent(new Event("input")); }
                slider.dispatchEvent(new Event("change"));
            }""",
            [level, values],
        )
        self.wait(since)

    def canvas(self, name):
        height, width, text = self.tab.evaluate(READ_CANVAS, name)
        return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3]

    def text(self, name):
        return self.tab.inner_text(f"#{name}")


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, subprocess.Popen]]:
    folder = tmp_path_factory.mktemp("models")
    models = [gated.folder(folder / "gff"), gated.folder(folder / "pspnet", tiny.PSPNET)]
    command = [sys.executable, "-c", LOCAL_ONLY, "explore", "--model", *map(str, models), "--port", "0"]
    command += ["--device", "cpu", "--precision", "float32", "--max-side", "320"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
        line = process.stdout.readline()
        assert line, process.stderr.read()
        yield line, process
        process.kill()


@pytest.fixture(scope="module")
def url(served) -> str:
    return re.fullmatch(r"gffnet explore: (http://127\.0\.0\.1:\d+/)\n", served[0])[1]


@pytest.fixture
def page(browser, url):
    opened = Page(browser, url)
    yield opened
    opened.tab.close()
    assert {re.match(r"(\w+://[^/]*|blob:\w+://[^/]*)", asked)[1] for asked in opened.requests} <= {
        url.rstrip("/"),
        "blob:" + url.rstrip("/"),
    }, "a request left this machine"
    assert opened.errors == []


@pytest.fixture(scope="module")
def session():
    return open_session(gated.predictor(), gated.image(160, 240))


@pytest.fixture(scope="module")
def photo() -> bytes:
    """The image of `session` as a file."""
    content = io.BytesIO()
    Image.fromarray(gated.image(160, 240)).save(content, "PNG")
    return content.getvalue()


def test_sliders_edit_gates_and_the_picture_is_the_networks(page, photo, session):
    palette = CAMVID.palette
    page.upload(photo)
    learned = overlay(session.image, session.learned.labels, palette, 0.5)
    assert np.array_equal(page.canvas("edited"), learned)
    for level in (1, 2, 3, 4):
        page.drag(level, [1.2, 0.7, 0.0])
        expected = session.predict({level: GateEdit(scale=0.0)})
        assert np.array_equal(page.canvas("edited"), overlay(session.image, expected.labels, palette, 0.5))
        assert not np.array_equal(page.canvas("edited"), learned)
        share = (expected.labels != session.learned.labels).mean()
        assert page.text("changes").startswith(f"{100 * share:.1f} % of the pixels changed")
        page.click(f"#reset-{level}")
        assert np.array_equal(page.canvas("edited"), learned)
        assert not page.tab.is_visible("#changes")


def test_holding_comparing_resetting(page, photo, session):
    page.upload(photo)
    learned = overlay(session.image, session.learned.labels, CAMVID.palette, 0.5)
    page.click("#close-2")
    assert re.search(r"mean 0\.\d\d → 0\.00", page.text("mean-2"))
    page.choose('select[aria-label$="gate G4 does"]', "hold")
    page.drag(4, [0.5])
    edited = session.predict({2: GateEdit(value=0.0), 4: GateEdit(value=0.5)})
    page.tab.click('button[data-mode="both"]')
    assert np.array_equal(page.canvas("learned"), learned)
    expected = overlay(session.image, edited.labels, CAMVID.palette, 0.5)
    assert np.array_equal(page.canvas("edited"), expected)
    page.tab.click('button[data-mode="changed"]')
    changed = edited.labels != session.learned.labels
    found = page.canvas("edited")
    assert np.array_equal((found == (255, 45, 149)).all(-1), changed)
    assert np.abs(found.astype(int) - highlight(session.image, changed)).max() <= 1
    page.tab.click('button[data-mode="learned"]')
    assert not page.tab.is_visible("canvas#edited")
    page.tab.click('button[data-mode="edited"]')
    page.tab.evaluate(
        "(() => { const o = document.querySelector('#opacity'); o.value = 100;"
        " o.dispatchEvent(new Event('input')); })()"
    )
    assert np.array_equal(page.canvas("edited"), overlay(session.image, edited.labels, CAMVID.palette, 1.0))
    page.click("#reset")
    assert np.array_equal(page.canvas("edited"), overlay(session.image, session.learned.labels, CAMVID.palette, 1.0))


def test_class_and_probability_under_the_pointer(page, photo, session):
    page.upload(photo)
    page.click("#close-3")
    edited = session.predict({3: GateEdit(value=0.0)})
    row, column = np.argwhere(edited.labels != session.learned.labels)[0]
    box = page.tab.locator("canvas#edited").bounding_box()
    page.tab.mouse.move(box["x"] + (column + 0.5) / 240 * box["width"], box["y"] + (row + 0.5) / 160 * box["height"])
    lines = [" ".join(line.split()) for line in page.text("tip").splitlines()]
    assert lines[0] == f"{CAMVID.names[edited.labels[row, column]]} {edited.percent[row, column]} %"
    before = session.learned
    assert lines[1] == f"as learned: {CAMVID.names[before.labels[row, column]]} {before.percent[row, column]} %"
    assert re.fullmatch(r"G1 [01]\.\d\d G2 [01]\.\d\d G3 0\.00 G4 [01]\.\d\d", lines[2])
    page.tab.mouse.move(2, 2)
    assert not page.tab.is_visible("#tip")
    names = {CAMVID.names[label] for label in np.unique(edited.labels)}
    assert all(name in page.text("legend") for name in names)
    assert not any(name in page.text("legend") for name in set(CAMVID.names) - names)


def test_what_a_preview_changed_is_compared_with_the_preview_as_learned(page, photo, session):
    page.upload(photo)
    text = page.tab.evaluate(
        """() => new Promise((done) => {
            const root = document.querySelector("main"), slider = document.querySelector('input[data-gate="1"]');
            const watch = new MutationObserver(() =>
                root.dataset.state === "preview" && done(document.querySelector("#changes").innerText));
            watch.observe(root, { attributes: true });
            slider.value = 0;
            slider.dispatchEvent(new Event("input"));
        })"""
    )
    edits = {1: GateEdit(scale=0.0)}
    before, after = session.predict({}, preview=True), session.predict(edits, preview=True)
    assert text.startswith(f"{100 * (before.labels != after.labels).mean():.1f} % of the pixels changed")
    assert "preview compared with the preview as learned" in text
    page.tab.wait_for_selector('main[data-state="exact"]')
    share = (session.predict(edits).labels != session.learned.labels).mean()
    assert page.text("changes").startswith(f"{100 * share:.1f} % of the pixels changed")
    assert "exact prediction compared with the exact one" in page.text("changes")


def test_the_legend_isolates_a_class(page, photo, session):
    page.upload(photo)
    drawn = overlay(session.image, session.learned.labels, CAMVID.palette, 0.5)
    label = int(session.learned.labels[80, 120])
    inside = session.learned.labels == label

    def isolated():
        picture = page.canvas("edited")
        assert np.array_equal(picture[inside], drawn[inside])
        gray = (picture == picture[..., :1]).all(-1)
        return gray[~inside].all() and not np.array_equal(picture, drawn)

    entry = f'[data-class="{label}"]'
    page.tab.hover(entry)
    assert isolated()
    page.tab.mouse.move(2, 2)
    assert not isolated()
    page.tab.focus(entry)
    assert isolated()
    page.tab.keyboard.press("Enter")
    page.tab.focus("#save")
    assert isolated(), "pinned"
    page.tab.keyboard.press("Escape")
    assert not isolated()


def test_a_gate_map_is_shown_large_in_its_own_range_or_from_0_to_1(page, photo, session):
    page.upload(photo)
    page.tab.click('button[aria-label="Map of gate G2, large"]')
    values = gate_map(session.gates[1], (40, 60))
    low, high = np.percentile(values, (1, 99))
    assert page.text("caption") == f"G2, colors from {low:.2f} to {high:.2f}"
    expected = color_table()[np.rint(255 * np.clip((values - low) / (high - low), 0, 1)).astype(int)]
    assert np.abs(page.canvas("edited").astype(int) - expected).max() <= 8, "a step or two of the color map"
    page.tab.click("#stretch")
    assert page.text("caption") == "G2, colors from 0.00 to 1.00"
    assert np.abs(page.canvas("edited").astype(int) - gate_colors(values)).max() <= 4
    page.tab.click('button[aria-label="Map of gate G2, large"]')
    assert page.canvas("edited").shape == (160, 240, 3)


def test_zoom_and_pan(page, photo):
    page.upload(photo)
    canvas = page.tab.locator("canvas#edited")

    def box():
        return np.array([canvas.bounding_box()[side] for side in ("x", "y", "width", "height")])

    whole = box()
    point = whole[:2] + [0.25, 0.75] * whole[2:]
    page.tab.mouse.move(*point)
    page.tab.mouse.wheel(0, -500)
    page.tab.wait_for_selector(".zoomed")
    near = box()
    assert near[2] / whole[2] == pytest.approx(np.exp(1), rel=1e-3)
    assert (point - near[:2]) / near[2:] == pytest.approx([0.25, 0.75], abs=1e-3), "stays under the pointer"
    page.tab.mouse.down()
    page.tab.mouse.move(point[0] + 30, point[1] - 20)
    page.tab.mouse.up()
    assert box()[:2] - near[:2] == pytest.approx([30, -20], abs=0.1)
    page.tab.focus("#pictures")
    for key in ("ArrowRight", "+", "-", "-", "ArrowUp", "0"):
        page.tab.keyboard.press(key)
    assert box() == pytest.approx(whole, abs=0.1)
    page.tab.keyboard.press("+")
    assert box()[2:] == pytest.approx(2 * whole[2:], abs=0.1)
    page.tab.dblclick("canvas#edited")
    assert box() == pytest.approx(whole, abs=0.1)


def test_a_wipe_between_before_and_after(page, photo):
    page.upload(photo)
    page.tab.click('button[data-mode="wipe"]')
    box = page.tab.locator("canvas#learned").bounding_box()

    def under(x):
        at = [box["x"] + x * box["width"], box["y"] + 0.3 * box["height"]]
        return page.tab.evaluate("at => document.elementFromPoint(...at).id", at)

    assert [under(x) for x in (0.1, 0.48, 0.52, 0.9)] == ["learned", "learned", "edited", "edited"]
    page.tab.focus("#wipe")
    for _ in range(40):
        page.tab.keyboard.press("ArrowRight")
    assert [under(x) for x in (0.68, 0.72)] == ["learned", "edited"]
    page.tab.focus("#pictures")
    page.tab.keyboard.press("+")
    assert [under(x) for x in (0.68, 0.72)] == ["learned", "edited"], "the boundary does not zoom"


def test_an_image_is_pasted(page, photo, session):
    paste = """text => {
        const clipboard = new DataTransfer();
        if (text) clipboard.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], "pasted.png"));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: clipboard }));
    }"""
    page.tab.evaluate(paste, "")
    assert "the clipboard holds no image" in page.text("message")
    since = page.shown()
    page.tab.evaluate(paste, base64.b64encode(photo).decode())
    page.wait(since)
    assert np.array_equal(page.canvas("edited"), overlay(session.image, session.learned.labels, CAMVID.palette, 0.5))
    page.tab.evaluate(paste, base64.b64encode(b"GIF89a").decode())
    page.tab.wait_for_selector("#message:not([hidden])")
    assert page.text("message").startswith("pasted.png: this file is not an image of an accepted format")


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_moves_under_a_slider_and_the_picture_is_in_view(browser, url, screen):
    page = Page(browser, url, screen)
    slider = page.tab.locator('input[data-gate="4"]')
    slider.scroll_into_view_if_needed()
    before = slider.bounding_box()
    page.drag(4, [0.5])
    assert slider.bounding_box() == before
    picture = page.tab.locator("canvas#edited").bounding_box()
    assert 0 <= picture["y"] < picture["y"] + picture["height"] < before["y"]
    if screen is PHONE:
        sizes = page.tab.evaluate(
            """() => [...document.querySelectorAll("button, select, label:has([type=checkbox]), input[type=range]")]
                .filter((target) => target.offsetWidth).map((target) => [target.offsetWidth, target.offsetHeight])"""
        )
        assert np.min(sizes) >= 44
        assert page.tab.evaluate("document.documentElement.scrollWidth") == 390
    assert page.errors == []
    page.tab.close()


def test_two_fingers_zoom(browser, url):
    page = Page(browser, url, PHONE)
    box = page.tab.locator("canvas#edited").bounding_box()
    touch = page.tab.context.new_cdp_session(page.tab)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 120), ("touchEnd", None)):
        fingers = [] if apart is None else [box["x"] + box["width"] / 2 + side * apart / 2 for side in (-1, 1)]
        points = [{"x": x, "y": box["y"] + box["height"] / 2, "id": i} for i, x in enumerate(fingers)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    wide = page.tab.locator("canvas#edited").bounding_box()
    assert wide["width"] / box["width"] == pytest.approx(3, rel=0.02)
    assert wide["x"] + wide["width"] / 2 == pytest.approx(box["x"] + box["width"] / 2, abs=1)
    page.tab.close()


def test_results_are_downloaded(page, photo, session):
    page.upload(photo)
    page.click("#open-1")
    with page.tab.expect_download() as download:
        page.tab.click("#save")
    with zipfile.ZipFile(download.value.path()) as file:
        assert json.loads(file.read("settings.json"))["gates"] == {"g1": {"scale": 1.0, "value": 1.0}}
        labels = np.array(Image.open(io.BytesIO(file.read("labels.png"))))
    assert np.array_equal(labels, session.predict({1: GateEdit(value=1.0)}).labels)


def test_an_image_that_is_opening_is_shown_though_a_slider_moves(page, photo, session):
    page.upload(photo)
    since = page.shown()
    page.tab.evaluate(
        """() => {
            document.querySelector('[data-scene="1"]').click();
            const slider = document.querySelector('input[data-gate="1"]');
            slider.value = 0;
            slider.dispatchEvent(new Event("input"));
            slider.dispatchEvent(new Event("change"));
        }"""
    )
    page.wait(since)
    page.tab.wait_for_timeout(500)
    assert page.canvas("edited").shape == (160, 320, 3)
    assert page.tab.get_attribute('[data-scene="1"]', "aria-pressed") == "true"
    assert page.tab.input_value('input[data-gate="1"]') == "0"


def test_models_scenes_and_bad_files(page, photo, session):
    page.click('[data-scene="1"]')
    assert page.canvas("edited").shape == (160, 320, 3)
    torn = hostile.REFUSED["png cut short"]()
    page.tab.set_input_files("#file", {"name": "../../x.png", "mimeType": "image/png", "buffer": torn})
    page.tab.wait_for_selector("#message:not([hidden])")
    assert "damaged or cut short" in page.text("message")
    page.upload(photo)
    assert not page.tab.is_visible("#message")
    page.click("#close-1")
    since = page.shown()
    page.tab.select_option("#model", "1")
    page.wait(since)
    assert "has no fusion" in page.text("without")
    assert page.tab.locator("input[data-gate]").count() == 0
    expected = open_session(gated.predictor(tiny.PSPNET), session.image).learned.labels
    assert np.array_equal(page.canvas("edited"), overlay(session.image, expected, CAMVID.palette, 0.5))


def test_tabs_are_independent_and_an_expired_image_is_opened_again(browser, url, page, photo, session):
    page.upload(photo)
    other = Page(browser, url)
    with other.tab.expect_request("**/api/open") as request:
        other.upload(hostile.encoded("PNG", (64, 96)))
    page.click("#close-4")
    before = other.canvas("edited")
    expected = overlay(session.image, session.predict({4: GateEdit(value=0.0)}).labels, CAMVID.palette, 0.5)
    assert np.array_equal(page.canvas("edited"), expected)
    assert np.array_equal(other.canvas("edited"), before)
    other.tab.close()
    for _ in range(MAX_SESSIONS):
        assert status(request.value.url, request.value.post_data_buffer, **JSON) == 200
    page.click("#reset-4")
    page.click("#close-4")
    assert np.array_equal(page.canvas("edited"), expected)
    assert other.errors == []


def status(url: str, data: bytes | None = None, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    "path",
    [
        "/../server.py",
        "/../../../../../../etc/passwd",
        "/%2e%2e/server.py",
        "//etc/passwd",
        "/./../server.py",
        "/static/",
    ],
)
def test_nothing_else_is_served(url, path):
    connection = http.client.HTTPConnection("127.0.0.1", urllib.parse.urlsplit(url).port, timeout=20)
    connection.request("GET", path)
    assert connection.getresponse().status == 404
    connection.close()


def test_requests_that_the_page_would_not_send(url):
    assert status(url) == 200
    assert status(url, Host="example.org") == 403
    assert status(f"{url}api/fuse", b"{}", Origin="https://example.org", **JSON) == 403
    assert status(f"{url}api/fuse", b"key=1") == 415
    assert status(f"{url}api/fuse", b"{", **JSON) == 200, "an error that the page shows"
    websocket = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    assert status(url, **websocket, **{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}) == 200, "not upgraded"


def test_an_interrupt_ends_it(served, url):
    """The last test: it ends the server."""
    _, process = served
    assert status(url) == 200
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err.splitlines() == ["Only this machine can open the page. Press Ctrl-C to stop.", "stopped"]
