"""Measure the gate explorer: the time from a slider event to the picture in a browser, and its parts.

    python benchmarks/explorer.py [--recipe streets/gffnet_r18] [--max-side 1024] [--runs 30] [--precision auto]
                                  [--out FILE]

The network is untrained, which does not affect the time; the image is a procedural street scene, twice as wide as high.

- *in the page*: `gffnet explore` in a process of its own and headless Chromium; from the input event of a slider to the
  painted picture. "preview": at half the resolution, shown while the slider is held; "exact": after its release. Every
  event has another value.
- *parts*: calls in this process, without page and transport, as many runs.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from gffnet.app.explorer import pack
from gffnet.app.session import Session, open_session
from gffnet.gates.edit import GateEdit, edit_gates
from gffnet.inference.precision import keep_pages
from gffnet.inference.predictor import load
from gffnet.streets import render_street
from harness import interleaved, machine, report, spread, timing
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="streets/gffnet_r18")
    parser.add_argument("--max-side", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--out", type=Path)
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
    """Return the seconds from a slider event to the picture."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-m", "gffnet", "explore", "--model", str(model), "--port", "0"]
    command += ["--max-side", str(max_side), "--precision", precision]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, sync_playwright() as playwright:
        assert process.stdout
        address = process.stdout.readline().split()[-1]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.set_default_timeout(120_000)
        tab.goto(address)
        tab.wait_for_selector('main[data-state="exact"]')  # an example is opened at once
        seconds: dict[str, list[float]] = {"preview, slider held": [], "exact picture, slider released": []}
        for run in range(-2, runs):
            value = 0.1 + 0.8 * ((run * 37) % 100) / 100
            for held, times in zip((True, False), seconds.values(), strict=True):
                took = tab.evaluate(MOVE, [1 + run % 4, value + 0.05 * held, held]) / 1000
                if held:  # the exact picture follows by itself: wait for it before the next event
                    tab.wait_for_selector('main[data-state="exact"]')
                if run >= 0:
                    times.append(took)
        browser.close()
        process.kill()
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
    main()
