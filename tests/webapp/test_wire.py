"""What travels between page and process."""

import base64
import zlib

import numpy as np
import pytest

from gffnet.errors import UserError
from gffnet.gates.edit import GateEdit
from gffnet.webapp.wire import edits_of, file_of, number_of, pack


def test_planes_come_back_in_their_order():
    planes = [np.arange(12, dtype=np.uint8).reshape(3, 4), np.full((3, 4), 200, np.uint8)[:, ::-1]]
    content = zlib.decompress(base64.b64decode(pack(*planes)))
    assert content == bytes(range(12)) + bytes([200] * 12)


def test_a_view_is_packed_as_it_looks():
    plane = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert zlib.decompress(base64.b64decode(pack(plane.T))) == bytes([0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])


def test_edits():
    sent = {"1": {"scale": 0.5, "value": None}, "4": {"scale": 1, "value": 0}}
    assert edits_of(sent) == {1: GateEdit(0.5), 4: GateEdit(1.0, 0.0)}


@pytest.mark.parametrize(
    "sent",
    [None, 3, "text", [1], {"1": None}, {"1": {}}, {"one": {"scale": 1, "value": None}}, {"1": {"scale": 1}},
     {"1": {"scale": "2", "value": None}}, {"1": {"scale": True, "value": None}},
     {"1": {"scale": 10**400, "value": 1}}],
)  # fmt: skip
def test_what_are_no_edits(sent):
    with pytest.raises(UserError, match="edits must read"):
        edits_of(sent)


def test_a_file():
    assert file_of("R0lG") == b"GIF"


@pytest.mark.parametrize("sent", [None, 3, ["R0lG"], "R0l", "R0lG\n!", "Grüße"])
def test_what_is_no_file(sent):
    with pytest.raises(UserError, match="arrived damaged"):
        file_of(sent)


def test_a_number():
    assert number_of(0, 0, 1, "opacity") == 0
    assert number_of(0.25, 0, 1, "opacity") == 0.25


@pytest.mark.parametrize("sent", [None, "1", True, -0.1, 1.1, float("nan"), float("inf"), 10**400, [0]])
def test_what_is_no_number(sent):
    with pytest.raises(UserError, match=r"opacity must be a number in 0\.\.1"):
        number_of(sent, 0, 1, "opacity")
