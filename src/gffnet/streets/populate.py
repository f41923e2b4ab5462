"""Everything that stands in a street."""

from collections.abc import Iterator

from gffnet.streets.life import greenery, parked_cycles, walkers
from gffnet.streets.roadside import lamp_posts, signals, small_things, wires
from gffnet.streets.site import Item, Site
from gffnet.streets.traffic import crossing, lanes, parked


def populate(site: Site) -> list[Item]:
    """Fill a site; far things first, as they are painted."""
    return sorted(_all(site), key=lambda item: -item.depth)


def _all(site: Site) -> Iterator[Item]:
    yield from lanes(site)
    yield from crossing(site)
    for side in site.layout.sides:
        yield from parked(site, side)
        yield from lamp_posts(site, side)
        yield from small_things(site, side)
        yield from greenery(site, side)
        yield from walkers(site, side)
        yield from parked_cycles(site, side)
    yield from signals(site)
    yield from wires(site)
