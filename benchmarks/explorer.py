"""Measure the gate explorer: the time from a slider event to the picture in a browser, and its parts.

    python benchmarks/explorer.py [--recipe streets/gffnet_r18] [--max-side 1024] [--runs 30] [--precision auto]
                                  [--out FILE]

The network is untrained, which does not affect the time; the image is a procedural street scene, twice as wide as high.

- *in the page*: `gffnet explore` in a process of its own and headless Chromium; from the input event of a slider to the
  painted picture. "preview": at half the resolution, shown while the slider is held; "exact": after its release. Every
  event has another value.
- *parts*: calls in this process, without page and transport, as many runs.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from gffnet.app.explorer import pack
from gffnet.app.session import Session, open_session
from gffnet.errors import RunFailed, UserError
from gffnet.gates.edit import GateEdit, edit_gates
from gffnet.inference.precision import keep_pages
from gffnet.inference.predictor import load
from gffnet.streets import render_street
from harness import add_count, add_out, interleaved, machine, make_parser, report, run, spread, timing
from large_image import untrained

MOVE = """([level, value, held]) => new Promise((done) => {
    const root = document.querySelector("main");
    const slider = document.querySelector(`input[data-gate="${level}"]`);
    const started = performance.now();
    const watch = new MutationObserver(() => {
        if (root.dataset.state !== (held ? "preview" : "exact")) return;
        watch.disconnect();
        requestAnimationFrame(() => done(performance.now() - started));
    });
    watch.observe(root, { attributes: true, attributeFilter: ["data-shown"] });
    slider.value = value;
    slider.dispatchEvent(new Event("input"));
    if (!held) slider.dispatchEvent(new Event("pointerup"));
})"""


def main() -> None:
    """Measure, print, and write the report if asked."""
    parser = make_parser(__doc__)
    parser.add_argument("--recipe", default="streets/gffnet_r18")
    add_count(parser, "--max-side", 1024, least=256)
    add_count(parser, "--runs", 30)
    parser.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    add_out(parser)
    arguments = parser.parse_args()
    keep_pages()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        untrained(arguments.recipe, None, folder)
        page = in_the_page(folder, arguments.max_side, arguments.precision, arguments.runs)
        predictor = load(folder, precision=arguments.precision)
    height, width = arguments.max_side // 2, arguments.max_side
    session = open_session(predictor, render_street(11, (height, width)).image)
    lines = [
        machine("starlette", "uvicorn"),
        f"{arguments.recipe}, {height}x{width}, {predictor.precision.name}, {arguments.runs} runs: median (range)",
        *[f"{what:>36}: {spread(timing(seconds), 3)} s" for what, seconds in page.items()],
        *parts(session, arguments.runs),
    ]
    report(lines, arguments.out)


def in_the_page(model: Path, max_side: int, precision: str, runs: int) -> dict[str, list[float]]:
    """Return the seconds from a slider event to the picture.

    Raises:
        UserError: there is no Chromium.
        RunFailed: the explorer or the page did not answer.
    """
    from playwright.sync_api import Error, sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise UserError("Chromium is not on PATH: install it, such as by `apt install chromium`.")
    command = [sys.executable, "-m", "gffnet", "explore", "--model", str(model), "--port", "0"]
    command += ["--max-side", str(max_side), "--precision", precision]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            words = process.stdout.readline().split()
            if not words:
                raise RunFailed("gffnet explore ended before it served the page: see above.")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                return move(browser.new_page(viewport={"width": 1440, "height": 900}), words[-1], runs)
        except Error as error:
            raise RunFailed(f"the page in {chromium}: {error}") from None
        finally:
            process.kill()


def move(tab: Any, address: str, runs: int) -> dict[str, list[float]]:
    """Move sliders in a tab of the browser."""
    tab.set_default_timeout(120_000)
    tab.goto(address)
    tab.wait_for_selector('main[data-state="exact"]')  # an example is opened at once
    seconds: dict[str, list[float]] = {"preview, slider held": [], "exact picture, slider released": []}
    for number in range(-2, runs):
        value = 0.1 + 0.8 * ((number * 37) % 100) / 100
        for held, times in zip((True, False), seconds.values(), strict=True):
            took = tab.evaluate(MOVE, [1 + number % 4, value + 0.05 * held, held]) / 1000
            if held:  # the exact picture follows by itself: wait for it before the next event
                tab.wait_for_selector('main[data-state="exact"]')
            if number >= 0:
                times.append(took)
    return seconds


@torch.inference_mode()
def parts(session: Session, runs: int) -> list[str]:
    """Time the parts of an exact answer."""
    predictor, encoded = session.predictor, session.encoded
    assert encoded is not None
    network, edits = predictor.network, {1: GateEdit(value=0.0)}
    assert network.fusion is not None
    assert network.pyramid is not None
    gates = edit_gates(session.gates, edits)
    mixed = network.fusion.mix(encoded.reduced, gates)
    fused = network.fusion.fuse(encoded.reduced, gates)
    maps = network.pyramid(encoded.context, fused)
    prediction = session.predict(edits)
    calls = {
        "open: encode, decode, at both sizes": lambda: open_session(predictor, session.image),
        "Eq. (5)": lambda: network.fusion.mix(encoded.reduced, gates),
        "its refinement": lambda: [f(x) for f, x in zip(network.fusion.refinements, mixed, strict=True)],
        "dense pyramid": lambda: network.pyramid(encoded.context, fused),
        "head, at the size of the image": lambda: network.head(maps, encoded.size),
        "exact answer: all four, labels": lambda: session.predict(edits),
        "preview": lambda: session.predict(edits, preview=True),
        "what changed": lambda: session.changes(prediction),
        "packing": lambda: pack(*prediction),
    }
    seconds = interleaved(calls, runs, warm_up=1)
    return [f"{what:>36}: {spread(timing(times), 3)} s" for what, times in seconds.items()]


if __name__ == "__main__":
    run(main)
