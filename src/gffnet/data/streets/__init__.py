"""Procedural street scenes with pixel-exact labels of the Cityscapes classes."""

from gffnet.data.streets.files import write_streets
from gffnet.data.streets.scene import Street, render_street

__all__ = ["Street", "render_street", "write_streets"]
