"""Where things can be put: poses by distance across and depth, and what every thing in the street offers."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from numpy.random import Generator

from gffnet.streets.camera import Camera
from gffnet.streets.canvas import Canvas
from gffnet.streets.layout import Layout
from gffnet.streets.light import Light
from gffnet.streets.mesh import Footprint, Pose


@runtime_checkable
class Item(Protocol):
    """Anything that stands in the street; `solid` is how dark its shadow is, 0..1."""

    height: float
    solid: float

    @property
    def depth(self) -> float:
        """Depth of its middle."""

    @property
    def footprint(self) -> Footprint:
        """Its rectangle on the ground."""

    def paint(self, canvas: Canvas) -> None:
        """Paint it where it is nearer than what is on the canvas."""


@dataclass
class Site:
    """A street to be filled; `lamps` collects the positions (X, Y, Z) of the street lamps put up."""

    camera: Camera
    layout: Layout
    light: Light
    rng: Generator
    lamps: list[tuple[float, float, float]] = field(default_factory=list)

    def pose(self, t: float, z: float, heading: float = 0.0) -> Pose:
        """The pose at distance t across and depth z; heading 0 is along the street there."""
        return Pose(self.layout.x(t, z), float(self.camera.ground(z)), z, self.layout.heading(z) + heading)

    def upright(self, t: float, z: float) -> Pose:
        """A pose that faces the camera squarely, for things whose front does."""
        return Pose(self.layout.x(t, z), float(self.camera.ground(z)), z, 0.0)

    def reach(self, far: float) -> float:
        """`far`, or the end of the street where it ends before."""
        return far if self.layout.stop is None else min(far, self.layout.stop - 2)
