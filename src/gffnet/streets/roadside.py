"""What stands along the kerb: lamp posts, signs, bollards, bins, traffic lights, overhead wires."""

from collections.abc import Iterator

import numpy as np

from gffnet.streets.furniture import bollard, lamp_post, litter_bin, post, signpost, traffic_light
from gffnet.streets.layout import Side
from gffnet.streets.mesh import KEEP, Face, Footprint, Thing
from gffnet.streets.site import Item, Site


def lamp_posts(site: Site, side: Side) -> Iterator[Item]:
    """A row of street lamps, on most streets."""
    rng = site.rng
    kerb = side.sign * (side.kerb + 0.45)
    z, gap = float(rng.uniform(4, 22)), float(rng.uniform(16, 34))
    if rng.random() < 0.25:
        return
    while z < site.reach(150):
        if not site.layout.in_crossing(z, 1):
            yield lamp_post(rng, site.upright(kerb, z), -side.sign, site.light.dark)
            site.lamps.append((site.layout.x(kerb - side.sign * 1.5, z), 6.5, z))
        z += gap


def small_things(site: Site, side: Side) -> Iterator[Item]:
    """Signs, a row of bollards, bins."""
    rng, layout = site.rng, site.layout
    kerb = side.sign * (side.kerb + 0.45)
    z = float(rng.uniform(4, 18))
    shade = site.light.shade((0, 0, -1))
    while z < site.reach(120):
        if not layout.in_crossing(z, 0.5):
            yield signpost(rng, site.upright(kerb + float(rng.normal(0, 0.12)), z), shade)
        z += 3 + float(rng.exponential(22))
    if rng.random() < 0.3:
        start, run, step = float(rng.uniform(4, 30)), float(rng.uniform(8, 30)), float(rng.uniform(1.3, 2.5))
        for z in np.arange(start, start + run, step).tolist():
            if not layout.in_crossing(z, 0.5):
                yield bollard(rng, site.upright(side.sign * (side.kerb + 0.35), z))
    for _ in range(int(rng.integers(0, 4))):
        z = float(rng.uniform(5, 60))
        if not layout.in_crossing(z, 1):
            yield litter_bin(rng, site.upright(side.sign * (side.frontage - 0.7), z))


def signals(site: Site) -> Iterator[Item]:
    """Traffic lights at the crossings."""
    rng = site.rng
    for z0, z1 in site.layout.crossings:
        if rng.random() < 0.08:
            continue
        state = int(rng.choice(3, p=[0.4, 0.1, 0.5]))
        for side in site.layout.sides:
            for z in (z0 - 1.2, z1 + 1.4):
                if rng.random() < 0.85:
                    arm = float(rng.uniform(2.5, 6)) if rng.random() < 0.45 else 0.0
                    pose = site.upright(side.sign * (side.kerb + 0.6), z)
                    yield traffic_light(rng, pose, -side.sign, state, arm)


def wires(site: Site) -> Iterator[Item]:
    """Wires over the tram tracks, and telephone lines on wooden poles. They colour pixels but have no class."""
    rng, layout = site.rng, site.layout
    lines = [(t, 5.4, 22.0) for t in layout.rails]
    if layout.district != "city" and rng.random() < 0.35:
        side = layout.sides[int(rng.integers(2))]
        t, step, tall = side.sign * (side.frontage - 0.3), float(rng.uniform(22, 34)), float(rng.uniform(5.5, 7.5))
        lines += [(t - 0.35, tall, step), (t + 0.35, tall, step), (t, tall - 0.5, step)]
        for z in np.arange(step / 2, 150, step).tolist():
            if not layout.in_crossing(z, 1):
                yield Thing([post(rng, site.upright(t, z), tall + 0.3, 0.11)], _spot(layout.x(t, z), z), tall)
    for t, tall, step in lines:
        for z in np.arange(step / 2 - step, 150, step).tolist():
            parts = np.linspace(max(z, 1.0), z + step, 7)
            sag = tall - 0.35 * (1 - np.square((parts - z) / step * 2 - 1))
            points = np.stack([layout.centre(parts) + t, sag + site.camera.ground(parts), parts], axis=1)
            for i in range(6):
                face = Face(points[i : i + 2], (36, 36, 40), KEEP, 0, 0.012)
                yield Thing([face], _spot(float(points[i, 0]), float(points[i, 2])), 0.1, 0.0)


def _spot(x: float, z: float) -> Footprint:
    return Footprint(x, z, 0.1, 0.1)
