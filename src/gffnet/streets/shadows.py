"""Shadows on the ground: cast by things in the sun, dappled under trees, and the darkness under and around things."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from gffnet.streets.camera import Camera, Floats, Points, clip_near
from gffnet.streets.canvas import SAMPLES
from gffnet.streets.light import Light
from gffnet.streets.site import Item
from gffnet.streets.trees import Tree


class Shadows(NamedTuple):
    """Per pixel (H, W), 0..1: how much of the sun things and leaves block, how much of the sky is hidden."""

    sun: Floats
    leaves: Floats
    close: Floats


def cast_shadows(camera: Camera, items: Sequence[Item], light: Light) -> Shadows:
    """Shadows that the items cast onto the ground plane, wherever it is seen."""
    rows, columns = camera.size
    masks = [Image.new("L", (columns // SAMPLES, rows // SAMPLES)) for _ in range(3)]
    sun, leaves, close = (_Pen(camera, mask) for mask in masks)
    away = -np.array([light.sun[0], light.sun[2]]) / max(light.sun[1], 0.05)
    for item in items:
        corners = item.footprint.corners()
        if isinstance(item, Tree):
            if light.strength > 0.05:
                sun.fill(_hull(_both(_grown(corners, 0.08), away * item.height * 0.5)), 255)
                leaves.fill(_crown(item, away), int(235 * item.solid))
            close.fill(_grown(corners, 0.3), 70)
            continue
        if item.footprint.length > 0.25:
            close.fill(_grown(corners, 1.15), int(90 * item.solid))
            close.fill(_grown(corners, 0.98), int(190 * item.solid))
        elif item.height < 2.2:
            close.fill(_grown(corners, 1.3), 90)
        if light.strength > 0.05:
            sun.fill(_hull(_both(corners, away * item.height)), int(255 * item.solid))
    soft = ImageFilter.GaussianBlur(columns / 3000)
    s, leafy, c = (np.asarray(mask.filter(soft), np.float32) / np.float32(255) for mask in masks)
    return Shadows(s, leafy, c)


class _Pen:
    """Draws polygons of ground points onto a mask of the image's size."""

    def __init__(self, camera: Camera, mask: Image.Image) -> None:
        self.camera, self.draw = camera, ImageDraw.Draw(mask)

    def fill(self, corners: Points, value: int) -> None:
        """Fill the polygon of ground points (N, 2), given as X and Z."""
        heights = self.camera.ground(corners[:, 1])
        points = clip_near(np.stack([corners[:, 0], heights, corners[:, 1]], axis=1), 1.0)
        if len(points) > 2:
            outline = self.camera.project(points) / SAMPLES
            self.draw.polygon([(x, y) for x, y in outline.tolist()], fill=value)


def _crown(tree: Tree, away: Points) -> Points:
    """Outline (N, 2) of the crown's shadow: an ellipse drawn out away from the sun."""
    wide = tree.footprint.width * 1.1
    angle = np.linspace(0, 2 * np.pi, 21)[:-1]
    middle = np.array([tree.pose.x, tree.pose.z]) + away * tree.height * 0.65
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * wide
    along = away / max(float(np.linalg.norm(away)), 1e-6)
    drawn = circle + np.outer(circle @ along, along) * 0.35 * float(np.linalg.norm(away))
    ragged = 1 + 0.18 * np.sin(angle * 5 + tree.key) + 0.1 * np.sin(angle * 9 + 2 * tree.key)
    return np.asarray(middle + drawn * ragged[:, None])


def _both(corners: Points, shift: Points) -> Points:
    return np.concatenate([corners, corners + shift])


def _grown(corners: Points, factor: float) -> Points:
    middle = corners.mean(0)
    return np.asarray(middle + (corners - middle) * factor)


def _hull(points: Points) -> Points:
    """Convex hull (monotone chain) of points (N, 2)."""
    ordered = sorted((float(x), float(y)) for x, y in points)
    halves = []
    for sequence in (ordered, ordered[::-1]):
        chain: list[tuple[float, float]] = []
        for point in sequence:
            while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        halves.append(chain[:-1])
    return np.array(halves[0] + halves[1])


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
