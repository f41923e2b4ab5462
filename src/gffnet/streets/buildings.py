"""Along and behind the street: buildings, walls, fences, hedges and woods, painted as textured upright panels."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from gffnet.streets.layout import END, Lot, Scene, Side
from gffnet.streets.noise import Floats, choose, floats, hashed, nearest_noise, noise
from gffnet.streets.render import NEAR, Bytes, Canvas, Face, Footprint, Label, Mask, Thing, Triple, clip_near, shaded

Ends = tuple[tuple[float, float], tuple[float, float]]


def paint_buildings(canvas: Canvas, scene: Scene) -> None:
    """Paint what closes the view, then the lots along the street."""
    _paint_skyline(canvas, scene)
    _paint_second_row(canvas, scene)
    _paint_end(canvas, scene)
    _paint_lots(canvas, scene)


def _paint_lots(canvas: Canvas, scene: Scene) -> None:
    """Paint buildings, and the walls, fences and hedges along the sidewalk, far ones first."""
    rng, layout = scene.texture_rng, scene.layout
    barriers = {"wall": (wall, Label.WALL), "fence": (fence, Label.FENCE), "hedge": (hedge, Label.VEGETATION)}
    for side, lot in sorted(((s, lot) for s in layout.sides for lot in s.lots), key=lambda pair: -pair[1].z0):
        kind: str = lot.kind
        if kind in ("garden", "building"):
            _paint_building(canvas, scene, side, lot)
        if kind == "garden" or (kind == "building" and lot.setback > 2):
            kind = choose(rng, ("wall", "fence", "hedge", "open"))
        if kind not in barriers:
            continue
        draw, label = barriers[kind]
        t, height = side.sign * (side.frontage + 0.1), rng.uniform(0.9, 3.1 if kind == "wall" else 2.5)
        texture = draw(rng, height)
        for z0, z1 in pairwise(np.linspace(lot.z0, lot.z1, max(2, int((lot.z1 - lot.z0) / 8) + 1)).tolist()):
            ends = ((layout.x(t, z0), z0), (layout.x(t, z1), z1))
            base = float(canvas.camera.ground(max(z0, 0.0)))
            paint_panel(canvas, ends, base - 0.1, base + height, texture, label, scene.light.shade(facing(ends)))


def _paint_building(canvas: Canvas, scene: Scene, side: Side, lot: Lot) -> None:
    """Paint a lot's building: the front along the street, both ends, the roof."""
    rng, layout, light, garden = scene.texture_rng, scene.layout, scene.light, lot.kind == "garden"
    front = side.sign * (side.frontage + lot.setback)
    back = front + side.sign * rng.uniform(9, 16)
    inset = rng.uniform(1.5, 4) if garden else 0.0
    z0, z1 = lot.z0 + inset, lot.z1 - inset
    if z1 - z0 < 3:
        return
    height = min(lot.height, 8.0) if garden else lot.height
    base = float(canvas.camera.ground(max(z0, 0.0)))
    a, b, c, d = ((layout.x(t, z), z) for t, z in ((front, z0), (front, z1), (back, z1), (back, z0)))
    facade = Facade(rng, height, not garden and layout.district == "city", light.dark)
    blank = rng.random() < 0.5
    for index, ends in enumerate([(a, b), (a, d), (b, c)]):
        texture = facade.blank if blank and index else facade
        shade = light.shade(facing(ends))
        paint_panel(canvas, ends, base - 1, base, facade, Label.BUILDING, 0.7 * shade)
        paint_panel(canvas, ends, base, base + height, texture, Label.BUILDING, shade)
    if garden or rng.random() < 0.45:
        _paint_roof(canvas, scene, (a, b, c, d), base + height, rng.uniform(1.5, 4.5))


def _paint_roof(
    canvas: Canvas, scene: Scene, corners: tuple[tuple[float, float], ...], eaves: float, rise: float
) -> None:
    """Paint a pitched roof with its ridge along the street."""
    rng, light = scene.texture_rng, scene.light
    a, b, c, d = (np.array([x, eaves, z]) for x, z in corners)
    deep, long = float(np.linalg.norm(a - d)), float(np.linalg.norm(b - a))
    ridge0, ridge1 = ((p + q) / 2 + np.array([0, rise, 0]) for p, q in ((a, d), (b, c)))
    tones = ((122, 62, 46), (96, 52, 44), (84, 84, 90), (110, 104, 98), (66, 66, 72))
    tone = np.array(choose(rng, tones)) * rng.uniform(0.8, 1.15)
    normal = (a - d) / max(deep, 1e-6) * rise + np.array([0, deep / 2, 0])
    slope = shaded(tone * light.shade(normal / np.linalg.norm(normal)))
    gable = shaded(tone * 1.3 * light.shade((0, 0, -1)))
    faces = [
        Face(np.array([d, a, ridge0]), gable, Label.BUILDING),
        Face(np.array([a, b, ridge1, ridge0]), slope, Label.BUILDING),
    ]
    center, heading = (a + b + c + d) / 4, float(np.arctan2(b[0] - a[0], b[2] - a[2]))
    footprint = Footprint(float(center[0]), float(center[2]), long / 2, deep / 2, heading)
    Thing([face for face in faces if len(clip_near(face.points)) > 2], footprint, eaves).paint(canvas)


def _paint_skyline(canvas: Canvas, scene: Scene) -> None:
    """Paint far buildings and woods on the horizon."""
    rng, center = scene.texture_rng, float(scene.layout.center(END))
    x = center - 320
    while x < center + 320:
        wide = rng.uniform(8, 32)
        z = END + rng.uniform(12, 160)
        _paint_background(canvas, scene, ((x, z), (x + wide, z)), 0.45, rng.uniform(7, 26))
        x += wide * rng.uniform(0.7, 1.1)


def _paint_second_row(canvas: Canvas, scene: Scene) -> None:
    """Paint buildings and tall trees behind the lots, and along the cross streets."""
    rng, layout = scene.texture_rng, scene.layout
    share = {"city": 0.8, "suburb": 0.4, "park": 0.25, "works": 0.5}[layout.district]
    for side in layout.sides:
        z = END
        while z > 0:
            long = rng.uniform(9, 30)
            t = side.sign * (side.frontage + rng.uniform(17, 34))
            if not layout.in_crossing(z, 1) and not layout.in_crossing(z - long, 1) and rng.random() < 0.85:
                ends = ((layout.x(t, z - long), z - long), (layout.x(t, z), z))
                _paint_background(canvas, scene, ends, share, rng.uniform(6, 17))
            z -= long * rng.uniform(0.9, 1.3)
        for z0, z1 in layout.crossings:
            for z in (z0 - 3, z1 + 3):
                t = side.sign * (side.frontage + 12)
                for _ in range(4):
                    far = t + side.sign * rng.uniform(9, 22)
                    ends = ((layout.x(t, z), z), (layout.x(far, z), z))
                    if rng.random() < 0.85:
                        _paint_background(canvas, scene, ends, share, rng.uniform(5, 17))
                    t = far


def _paint_end(canvas: Canvas, scene: Scene) -> None:
    """Paint houses and trees along the street across, if the street ends at one."""
    rng, stop = scene.texture_rng, scene.layout.stop
    if stop is None:
        return
    center = scene.layout.x(0, stop)
    x = center - 90
    while x < center + 90:
        wide = rng.uniform(8, 24)
        ends = ((x, stop + rng.uniform(0, 1.5)), (x + wide, stop + rng.uniform(0, 1.5)))
        _paint_background(canvas, scene, ends, 0.75, rng.uniform(6, 20))
        x += wide * rng.uniform(1.0, 1.1)


def _paint_background(canvas: Canvas, scene: Scene, ends: Ends, share: float, height: float) -> None:
    """Paint a facade, with probability `share`, or a row of trees between two ground points."""
    rng, light = scene.texture_rng, scene.light
    base = float(canvas.camera.ground(max(ends[0][1], 0.0))) - 0.3
    shade = light.shade(facing(ends))
    if rng.random() < share:
        facade = Facade(rng, height, height > 9, light.dark)
        paint_panel(canvas, ends, base, base + height, facade, Label.BUILDING, shade)
    else:
        trees = wood(rng, height, length(ends))
        paint_panel(canvas, ends, base, base + height, trees, Label.VEGETATION, 0.4 + 0.6 * shade)


class Texels(NamedTuple):
    """Appearance of N points of a panel: color (N, 3), glow, which points exist, which of them show their color.

    Points that exist but do not show (the gaps of a fence) have the class, and the color of what is behind.
    """

    rgb: Floats
    glow: Bytes | int = 0
    exists: Mask | bool = True
    shows: Mask | bool = True


Texture = Callable[[Floats, Floats, Floats], Texels]
"""Called with metres along the panel, metres above its bottom, and the metres that a sample covers, each (N,)."""


def paint_panel(
    canvas: Canvas, ends: Ends, bottom: float, top: float, texture: Texture, label: int, shade: float = 1.0
) -> None:
    """Paint an upright panel between two ground points (X, Z), from `bottom` to `top` metres high, depth-tested."""
    (x0, z0), (x1, z1) = ends
    corners = clip_near(np.array([(x0, bottom, z0), (x1, bottom, z1), (x1, top, z1), (x0, top, z0)]))
    if len(corners) < 3:
        return
    outline = canvas.camera.project(corners)
    box = canvas.box(*outline.min(0), *outline.max(0))
    if box is None:
        return
    long = length(ends)
    ex, ez = (x1 - x0) / long, (z1 - z0) / long
    rx, ry = (ray[box] for ray in canvas.camera.rays)
    speed = rx * np.float32(ez) - np.float32(ex)
    speed = np.where(np.abs(speed) < 1e-6, np.float32(1e-6), speed)
    depth = np.float32(x0 * ez - z0 * ex) / speed
    along = (rx * depth - np.float32(x0)) * np.float32(ex) + (depth - np.float32(z0)) * np.float32(ez)
    above = np.float32(canvas.camera.height - bottom) + ry * depth
    mask = (depth > NEAR) & (along >= 0) & (along <= long) & (above >= 0) & (above <= top - bottom)
    mask &= depth < canvas.depth[box]
    if not mask.any():
        return
    z, slant = depth[mask], np.maximum(np.abs(speed[mask]), np.float32(0.02))
    texels = texture(along[mask], above[mask], z / np.float32(canvas.camera.focal) / slant)
    rgb = np.clip(texels.rgb * np.float32(shade), 0, 255).astype(np.uint8)
    glow, exists, shows = (np.broadcast_to(values, z.shape) for values in texels[1:])
    rows, columns = np.nonzero(mask)
    place, shown = (rows[exists], columns[exists]), exists & shows
    canvas.label[box][place], canvas.depth[box][place] = label, z[exists]
    place = rows[shown], columns[shown]
    canvas.rgb[box][place], canvas.glow[box][place] = rgb[shown], glow[shown]


def length(ends: Ends) -> float:
    """Distance between the ends, in metres."""
    (x0, z0), (x1, z1) = ends
    return float(np.hypot(x1 - x0, z1 - z0))


def facing(ends: Ends) -> Triple:
    """Unit normal of the panel between these ends, on the camera's side."""
    (x0, z0), (x1, z1) = ends
    long = length(ends) or 1.0
    nx, nz = (z1 - z0) / long, (x0 - x1) / long
    turn = -1.0 if nx * x0 + nz * z0 > 0 else 1.0
    return nx * turn, 0.0, nz * turn


class Facade:
    """A texture: plaster, brick or glass with windows, doors, shops, balconies; `lit` ones have lamps on.

    Lengths in metres, colors 0..255; `window` is its width and height as shares of `bay` and `storey`, `shop_floor`
    the height of the shops, 0 for none.
    """

    def __init__(self, rng: Generator, height: float, city: bool, lit: bool) -> None:
        palette = (
            (198, 186, 160), (214, 208, 196), (168, 92, 70), (142, 84, 66), (186, 160, 118), (150, 148, 144),
            (122, 124, 130), (226, 218, 202), (196, 150, 120), (108, 98, 90), (160, 172, 178), (214, 184, 120),
        )  # fmt: skip
        self.height = height
        pick = int(rng.integers(len(palette)))
        self.base = np.clip(np.array(palette[pick]) * rng.uniform(0.6, 1.12) + rng.normal(0, 8, 3), 30, 240)
        glass = city and rng.random() < 0.16
        self.window = rng.uniform(0.3, 0.62), rng.uniform(0.42, 0.68)
        if glass:
            self.window = rng.uniform(0.86, 0.95), rng.uniform(0.7, 0.9)
        contrast = 1.2 if rng.random() < 0.6 else 0.75
        self.trim = np.clip(self.base * contrast + rng.normal(0, 6, 3), 20, 245)
        self.frame = floats((225, 224, 220) if rng.random() < 0.6 else (70, 60, 52))
        self.pane = np.array([62, 70, 78]) * rng.uniform(0.5, 1.5) + rng.normal(0, 5, 3)
        self.storey, self.bay = rng.uniform(2.7, 3.9), rng.uniform(1.6, 3.8)
        self.shop_floor = rng.uniform(3.2, 4.4) if city and rng.random() < 0.65 and height > 7 else 0.0
        self.shop = rng.uniform(60, 190, 3)
        self.brick = rng.uniform(0.15, 0.35) if pick in (2, 3, 8) or rng.random() < 0.15 else 0.0
        self.balcony = rng.uniform(0.3, 0.8) if rng.random() < 0.3 else 0.0
        self.lit = rng.uniform(0.15, 0.5) if lit else 0.0  # share of the windows
        self.key = int(rng.integers(1 << 16))

    def __call__(self, u: Floats, v: Floats, spacing: Floats) -> Texels:
        """The facade at u metres along and v metres up."""
        color, glow = self._wall(u, v, spacing, self.shop_floor), np.zeros(u.shape, np.uint8)
        self._paint_openings(color, glow, u, v)
        if self.shop_floor:
            self._paint_shops(color, glow, u, v)
        return Texels(color, glow)

    def blank(self, u: Floats, v: Floats, spacing: Floats) -> Texels:
        """The facade without openings."""
        return Texels(self._wall(u, v, spacing, 0.0))

    def _wall(self, u: Floats, v: Floats, spacing: Floats, shop_floor: float) -> Floats:
        """Color (N, 3) of the bare wall: plaster, brick courses, streaks of rain, a plinth."""
        fine = nearest_noise(u * 30, v * 30, 0.5) * np.clip(0.05 / spacing, 0, 1)
        value = 1 + 0.035 * fine + 0.045 * nearest_noise(u * 14 + self.key, v * 1.5 + self.key, 1.2, 1)
        if self.brick:
            course = v / 0.09
            row = np.floor(course)
            tone = hashed(u / 0.26 + 0.5 * (row % 2), row, 11) - 0.5
            joint = floats(course - row < 0.2)
            value = value + (self.brick * tone + 0.22 * joint) * np.clip(0.05 / spacing, 0, 1)
        band = (np.abs((v - shop_floor) % self.storey) < 0.14) & (self.key % 3 == 0)
        value = np.where(band, value * 1.12, value)
        value = np.where(v < 0.6, value * 0.8, value)
        value = np.where(v > self.height - 0.45, value * 0.86, value)
        return floats(value[:, None] * floats(self.base))

    def _paint_openings(self, color: Floats, glow: Bytes, u: Floats, v: Floats) -> None:
        """Paint windows, doors and balconies, in place."""
        above, (wide, tall) = v - self.shop_floor, self.window
        column, level = np.floor(u / self.bay), np.floor(above / self.storey)
        a, b = u / self.bay - column, above / self.storey - level
        pick = hashed(column, level, self.key)
        across, up = np.abs(a - 0.5) / (wide / 2), np.abs(b - 0.52) / (tall / 2)
        below_roof = v < self.height - 0.5
        upstairs = (above > 0) & below_roof
        inside = (across < 1) & (up < 1) & upstairs
        rim = (across < 1 + 0.16 / wide / self.bay * 2) & (up < 1 + 0.2 / tall / self.storey) & upstairs
        color[rim & ~inside] = self.trim
        edge = inside & ((across > 1 - 0.14 / (wide * self.bay)) | (up > 1 - 0.16 / (tall * self.storey)))
        bars = inside & (across < 0.05) & (pick < 0.7)
        color[inside] = self._panes(u[inside], v[inside], pick[inside])
        color[edge | bars] = self.frame
        door = (level == 0) & (above < 2.3) & (np.abs(a - 0.5) * self.bay < 0.55) & (pick < 0.3)
        door &= self.shop_floor == 0
        color[door] = floats(self.trim)[None] * (0.35 + 0.5 * pick[door, None])
        lit = inside & ~door & ~edge & ~bars & ((pick * 7919) % 1 < self.lit)
        glow[lit] = 230
        color[lit] = floats([255, 214, 150]) * (0.55 + 0.45 * pick[lit])[:, None]
        if self.balcony:
            rail = (b < 0.3) & (np.abs(a - 0.5) < 0.46) & (above > self.storey) & below_roof
            rail &= hashed(column, column, self.key + 3) < self.balcony
            rail &= ((u * 7) % 1 < 0.45) | (b > 0.27) | (b < 0.05)
            color[rail] = floats(self.trim) * 0.5
            glow[rail] = 0

    def _panes(self, u: Floats, v: Floats, pick: Floats) -> Floats:
        """Color (N, 3) of window panes: dark rooms, curtains, the reflected sky."""
        reflected = noise(u * 5 + 40 * pick, v * 5, 1.5, 2)
        color = floats(self.pane) * (0.8 + 0.5 * pick + 0.14 * reflected)[:, None]
        curtain = (pick * 977 % 1 < 0.28) & ((v * 3 + pick * 5) % 3 > 1.2)
        return np.where(curtain[:, None], floats([190, 186, 176]) * (0.7 + 0.3 * pick[:, None]), color)

    def _paint_shops(self, color: Floats, glow: Bytes, u: Floats, v: Floats) -> None:
        """Paint shop windows and name boards onto the ground floor, in place."""
        along, floor = u / (2 * self.bay), self.shop_floor
        shop = np.floor(along)
        offset = np.abs(along - shop - 0.5)
        pick = hashed(shop, shop, self.key + 9)
        within = (v < floor) & (offset < 0.44)
        board = within & (v > floor - 0.75) & (v < floor - 0.15)
        pane = within & (v > 0.5) & (v < floor - 0.85) & ((u * 0.8 + pick) % 1 > 0.06)
        hue = np.stack([pick, (pick * 3.7) % 1, (pick * 9.1) % 1], axis=-1)
        color[board] = (floats(self.shop) * (0.4 + hue))[board]
        letters = board & (hashed(u * 4, v * 5, self.key) < 0.4) & (np.abs(v - floor + 0.45) < 0.16) & (offset < 0.25)
        color[letters] = floats([238, 236, 228])
        shelf = hashed(u * 2.2, v * 1.6, self.key + 1)
        goods = np.stack([shelf, (shelf * 7.3) % 1, (shelf * 13.7) % 1], axis=-1) * (0.4 + 0.6 * pick[:, None])
        stocked = ((shelf > 0.35) & (v < 2.2))[:, None]
        room = floats(self.pane) * (0.8 + 0.2 * noise(u * 6, v * 6, 1.5, 3)[:, None]) + 55 * goods * stocked
        color[pane] = room[pane]
        if self.lit:
            shining = pane & (pick < 0.4 + self.lit)
            color[shining] = (floats((215, 186, 140)) * (0.5 + 0.6 * goods))[shining]
            glow[shining | (board & (pick > 0.5))] = 210


def wall(rng: Generator, height: float) -> Texture:
    """A garden or factory wall of brick, concrete panels, rubble or plaster, sometimes with graffiti."""
    base = np.array(choose(rng, ((150, 90, 70), (148, 146, 140), (126, 120, 110), (190, 180, 160), (108, 100, 92))))
    base = floats(base * rng.uniform(0.7, 1.15) + rng.normal(0, 6, 3))
    tall, long = choose(rng, ((0.09, 0.27), (0.9, 2.5), (0.3, 0.55), (9.0, 9.0)))
    key = int(rng.integers(1 << 16))
    sprayed = rng.uniform(0.4, 1) if rng.random() < 0.3 else 0.0
    paint = floats(rng.uniform(30, 230, 3))

    def texture(u: Floats, v: Floats, spacing: Floats) -> Texels:
        row = np.floor(v / tall)
        along = u / long + 0.5 * (row % 2)
        tone = hashed(along, row, key) - 0.5
        joint = (v % tall < 0.02 + 0.08 * tall * (tall < 0.2)) | (along % 1 < 0.02 / long)
        fade = np.clip(tall / 2 / spacing, 0, 1)
        dirt = noise(u * 9 + key, v * 5, 1.3, 4)
        value = 1 + (0.2 * tone * (tall < 5) - 0.2 * joint) * fade + 0.07 * dirt
        value = np.where(v > height - 0.14, value * 1.12, value) * np.clip(0.75 + v * 0.6, 0, 1)
        color = value[:, None] * base
        if sprayed:
            marks = (np.abs(noise(u * 16 + key, v * 16, 1.6, 5)) < 0.16) & (v > 0.4) & (v < 1.9)
            color[marks & (noise(u * 2 + key, np.zeros_like(u), 2.0, 6) > 1 - sprayed)] = paint
        return Texels(color)

    return texture


def fence(rng: Generator, height: float) -> Texture:
    """A fence of bars, mesh or planks, or a barrier of road works. Gaps have the class and show what is behind."""
    kind = choose(rng, ("bars", "mesh", "planks", "barrier"), (0.45, 0.25, 0.2, 0.1))
    tone = floats(choose(rng, ((40, 44, 42), (52, 84, 62), (150, 154, 156), (120, 92, 66), (210, 208, 200))))
    pitch, post = rng.uniform(0.1, 0.2), rng.uniform(1.6, 3)

    def texture(u: Floats, v: Floats, spacing: Floats) -> Texels:
        posts = (u % post < 0.08) | (v > height - 0.06)
        color = np.broadcast_to(tone, (len(u), 3)) * np.clip(1.3 - 0.03 / spacing, 0.7, 1.2)[:, None]
        if kind == "bars":
            shows = posts | (u % pitch < 0.028) | (np.abs(v - 0.2) < 0.03) | (np.abs(v - height + 0.25) < 0.03)
        elif kind == "mesh":
            shows = posts | ((u + v) % 0.12 < 0.014) | ((u - v) % 0.12 < 0.014)
        elif kind == "planks":
            shows = posts | (u % 0.14 < 0.105)
            color = color * (0.85 + 0.3 * hashed(u / 0.14, 0, 3))[:, None]
        else:
            shows = (u % post < 0.06) | (np.abs(v % 0.5 - 0.3) < 0.11)
            color = np.where(((u % 0.9) < 0.45)[:, None], floats([196, 44, 36]), floats([232, 230, 226]))
        return Texels(floats(color), shows=shows)

    return texture


def hedge(rng: Generator, height: float) -> Texture:
    """A clipped or wild hedge."""
    key = rng.uniform(0, 512)
    green = floats(np.array([58, 84, 40]) * rng.uniform(0.6, 1.4) + rng.normal(0, 6, 3))
    wild = rng.uniform(0.03, 0.25)

    def texture(u: Floats, v: Floats, spacing: Floats) -> Texels:
        edge = height * (1 - wild) + wild * height * 0.5 * noise(u * 14 + key, np.zeros_like(u), 1.0, 7)
        leaves = nearest_noise(u * 26 + key, v * 26, 0.5, 8) * np.clip(0.1 / spacing, 0.3, 1)
        clumps = noise(u * 9 + key, v * 9, 1.2, 9)
        value = (1 + 0.22 * leaves + 0.16 * clumps) * np.clip(0.55 + 0.5 * v / height, 0, 1)
        return Texels(value[:, None] * green, exists=v < edge)

    return texture


def wood(rng: Generator, height: float, long: float) -> Texture:
    """A row of trees seen from afar."""
    key = rng.uniform(0, 512)
    green = floats(np.array([66, 84, 46]) * rng.uniform(0.6, 1.3) + rng.normal(0, 6, 3))

    def texture(u: Floats, v: Floats, spacing: Floats) -> Texels:
        crowns = noise(u * 5 + key, np.zeros_like(v), 1.4, 8) + 0.5 * noise(u * 15 + key, v * 15, 0.8, 8)
        leaves = nearest_noise(u * 14 + key, v * 14, 0.7, 9)
        clumps = noise(u * 9 + key, v * 9, 1.2, 10)
        value = (1 + 0.16 * leaves + 0.16 * clumps) * np.clip(0.45 + 0.6 * v / np.float32(height), 0, 1)
        taper = np.sqrt(np.clip(np.minimum(u, np.float32(long) - u) / 2.5 + 0.1 * clumps, 0, 1))
        return Texels(value[:, None] * green, exists=v < height * taper * (0.72 + 0.14 * crowns))

    return texture
