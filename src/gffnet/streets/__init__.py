"""Procedural street scenes with pixel-exact labels of the Cityscapes classes."""

from gffnet.streets.files import write_streets
from gffnet.streets.scene import Street, render_street

__all__ = ["Street", "render_street", "write_streets"]
