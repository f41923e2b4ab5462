"""Cityscapes label ids that occur in a procedural street scene."""

from enum import IntEnum


class Label(IntEnum):
    """Cityscapes label ids: the 19 evaluated classes, and the void ids this package uses."""

    UNLABELED = 0
    EGO_VEHICLE = 1
    STATIC = 4
    ROAD = 7
    SIDEWALK = 8
    BUILDING = 11
    WALL = 12
    FENCE = 13
    POLE = 17
    TRAFFIC_LIGHT = 19
    TRAFFIC_SIGN = 20
    VEGETATION = 21
    TERRAIN = 22
    SKY = 23
    PERSON = 24
    RIDER = 25
    CAR = 26
    TRUCK = 27
    BUS = 28
    TRAIN = 31
    MOTORCYCLE = 32
    BICYCLE = 33


VOID = frozenset({Label.UNLABELED, Label.EGO_VEHICLE, Label.STATIC})
EVALUATED = tuple(label for label in Label if label not in VOID)
