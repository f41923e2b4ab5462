import numpy as np
import pytest

from gffnet.streets import Label
from gffnet.streets.render import NO_CLASS, Camera, Canvas, Face, Pose, Thing, clip_near, reduce_labels
from gffnet.streets.things import post

CAMERA = Camera((128, 256), 240.0, 1.5, 0.04, 0.02, 0.0)


def square(z: float, half: float, label: int) -> Thing:
    pose = Pose(0.0, 0.0, z)
    points = pose.world([(-half, 1.5 - half, 0), (half, 1.5 - half, 0), (half, 1.5 + half, 0), (-half, 1.5 + half, 0)])
    return Thing([Face(points, (200, 10, 10), label)], pose.footprint(0.1, half), 2.0)


@pytest.mark.parametrize("hill", [0.0, 1e-4, -1e-4])
def test_ground_depth_agrees_with_projection(hill):
    camera = Camera((128, 256), 240.0, 1.5, 0.04, 0.02, hill)
    depth = camera.ground_depth
    rows, columns = np.nonzero(depth < 60)
    assert len(rows) > 1000
    z = depth[rows, columns].astype(float)
    rx, ry = camera.rays
    points = np.stack([rx[rows, columns] * z, camera.height + ry[rows, columns] * z, z], axis=1)
    assert np.allclose(points[:, 1], hill * z * z, atol=1e-3)
    assert np.allclose(camera.project(points), np.stack([columns, rows], axis=1) + 0.5, atol=1e-2)


@pytest.mark.parametrize("order", [1, -1])
def test_the_nearer_thing_wins_in_any_order(order):
    canvas = Canvas(CAMERA)
    for thing in [square(10, 1.6, Label.CAR), square(5, 0.5, Label.PERSON)][::order]:
        thing.paint(canvas)
    assert (canvas.label[50:62, 120:136] == Label.PERSON).all()
    assert 0.3 < (canvas.label == Label.CAR).sum() / (canvas.label == Label.PERSON).sum() < 3


def test_size_in_the_picture_follows_distance():
    areas = []
    for z in (5.0, 10.0):
        canvas = Canvas(CAMERA)
        square(z, 0.8, Label.CAR).paint(canvas)
        areas.append(int((canvas.label == Label.CAR).sum()))
    assert areas[0] / areas[1] == pytest.approx(4, rel=0.1)


def test_a_pole_is_as_thin_as_it_should_be():
    canvas = Canvas(CAMERA)
    pose = Pose(1.0, 0.0, 12.0)
    post(np.random.default_rng(0), pose, 4.0, 0.05).paint(canvas)
    widths = (canvas.pixels()[1] == Label.POLE).sum(1)
    assert np.count_nonzero(widths) > 20
    assert widths.max() <= 2


def test_wires_have_a_color_but_no_class():
    canvas = Canvas(CAMERA)
    square(8, 1, NO_CLASS).paint(canvas)
    assert (canvas.label == 0).all()
    assert canvas.rgb.any()


def test_a_pixel_takes_the_class_of_most_of_its_samples():
    def pixel(*samples: int) -> int:
        return int(reduce_labels(np.array(samples, np.uint8).reshape(2, 2))[0, 0])

    for odd in range(4):
        samples = [7] * 4
        samples[odd] = 8
        assert pixel(*samples) == 7
    assert pixel(1, 2, 3, 3) == 3
    assert pixel(1, 2, 3, 2) == 2
    assert pixel(1, 2, 2, 1) == 1  # a tie: the top left sample's
    assert pixel(1, 2, 3, 4) == 1


def test_image_and_labels_come_from_the_same_samples():
    canvas = Canvas(CAMERA)
    square(6, 0.7, Label.CAR).paint(canvas)
    color, label, _, _ = canvas.pixels()
    painted = color[..., 0] > 60
    assert np.mean(painted == (label == Label.CAR)) > 0.99


def test_clipping_keeps_what_lies_ahead():
    points = np.array([(0, 0, -1.0), (1, 0, -1.0), (1, 0, 3.0), (0, 0, 3.0)])
    clipped = clip_near(points, 1.0)
    assert clipped[:, 2].min() == pytest.approx(1.0)
    assert clipped[:, 2].max() == 3.0
    assert len(clip_near(points - [0, 0, 9], 1.0)) == 0
