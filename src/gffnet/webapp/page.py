"""The page: one component of gradio's, which draws itself from the numbers that an `Explorer` answers."""

import json
import os
from importlib.resources import files
from typing import Any

from gffnet.webapp.explorer import Answer, Explorer

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported, which asks another machine otherwise

import gradio
from fastapi import FastAPI

_SCRIPTS = ("explorer_draw.js", "explorer_ask.js", "explorer_wire.js")
"""Parts of one script: what the first declares, the others use."""
_FONTS = ["system-ui", "sans-serif"]
_CSS = """
footer { display: none !important; }
.gradio-container, .gradio-container .main.app, .gradio-container .html-container { padding: 0 !important; }
.gradio-container .block { overflow: visible !important; }
.gradio-container { overflow: clip !important; }
"""


def build(explorer: Explorer) -> FastAPI:
    """The application that serves the page."""
    with gradio.Blocks(title="gffnet explore", analytics_enabled=False, fill_width=True) as blocks:
        _component(explorer)
    theme = gradio.themes.Base(font=_FONTS, font_mono=["ui-monospace", "monospace"])
    app: FastAPI = gradio.mount_gradio_app(
        FastAPI(openapi_url=None),
        blocks,
        path="/",
        server_name="127.0.0.1",
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        allowed_paths=[],
        max_file_size="1b",
        show_error=False,
        theme=theme,
        css=_CSS,
    )
    return app


def _component(explorer: Explorer) -> Any:
    """The component, and the questions that its script may ask."""

    # Functions, for gradio marks what may be asked by an attribute, which a method cannot have.
    def open(asked: Any) -> Answer:
        return explorer.open(asked)

    def fuse(asked: Any) -> Answer:
        return explorer.fuse(asked)

    def save(asked: Any) -> Answer:
        return explorer.save(asked)

    return gradio.HTML(
        html_template=_file("explorer.html"),
        css_template="",
        js_on_load=f"(async () => {{\n{''.join(map(_file, _SCRIPTS))}\n}})();",
        apply_default_css=False,
        head=f"<style>{_file('explorer.css')}</style>",
        server_functions=[open, fuse, save],
        page=json.dumps(explorer.page()),
    )


def _file(name: str) -> str:
    """A file of this package."""
    return files("gffnet.webapp").joinpath(name).read_text(encoding="utf-8")
