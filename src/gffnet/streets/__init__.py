"""Procedural street scenes with pixel-exact labels of the Cityscapes classes."""

from gffnet.streets.render import Label
from gffnet.streets.scene import Street, render_street
from gffnet.streets.write import write_streets

__all__ = ["Label", "Street", "render_street", "write_streets"]
