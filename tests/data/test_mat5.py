import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest

from gffnet.data.io import MatFile
from gffnet.errors import UserError


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "II", kind, len(content)) + content + bytes(-len(content) % 8)


def variable(of: int, shape: tuple[int, ...], content: bytes, name: bytes = b"S", order: str = "<") -> bytes:
    flags = struct.pack(order + "II", of, 0)
    parts = element(6, flags, order) + element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
    return element(14, parts + element(1, name, order) + content, order)


def write(path: Path, *elements: bytes, order: str = "<") -> Path:
    version = struct.pack(order + "H", 0x0100) + (b"IM" if order == "<" else b"MI")
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + version + b"".join(elements))
    return path


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_all_encodings_of_text(tmp_path: Path, order: str) -> None:
    codec = {"<": "utf-16-le", ">": "utf-16-be"}[order]
    cells = [(4, "é".encode(codec)), (17, "ab".encode(codec)), (16, "é".encode()), (1, b"a"), (2, b"b")]
    lengths = (1, 2, 1, 1, 1)
    content = b"".join(
        variable(4, (1, length), element(kind, text, order), b"", order)
        for (kind, text), length in zip(cells, lengths, strict=True)
    )
    ids = variable(8, (2, 3), element(4, struct.pack(order + "6H", 1, 2, 3, 4, 5, 300), order), b"LabelMap", order)
    path = write(tmp_path / "a.mat", ids, variable(1, (5, 1), content, b"names", order), order=order)
    file = MatFile(path, ("LabelMap", "names"))
    assert file.ids("LabelMap").tolist() == [[1, 3, 5], [2, 4, 300]]
    assert file.texts("names") == ("é", "ab", "é", "a", "b")


def test_texts_are_as_long_as_they_say(tmp_path: Path) -> None:
    for shape, said in [
        ((1, 2), ("ab", "🚲")),
        ((1, 1), ("a", "🚲")),
        ((1, 0), ("",)),
        ((0, 0), ("",)),
        ((3, 1), ("abc",)),
    ]:
        for text in ("", "a", "ab", "abc", "🚲"):
            cell = variable(4, shape, element(16, text.encode()), b"")
            file = MatFile(write(tmp_path / "a.mat", variable(1, (1, 1), cell, b"names")), ("names",))
            if text in said:
                assert file.texts("names") == (text,)
            else:
                with pytest.raises(UserError, match="a text of variable 'names' is not as long as it says"):
                    file.texts("names")


def test_a_variable_without_name(tmp_path: Path) -> None:
    whole = variable(9, (1, 1), element(2, b"\7"))
    damaged = whole.replace(element(1, b"S"), element(256, b"S"))
    assert damaged != whole
    with pytest.raises(UserError, match=r"a\.mat: it is damaged: a variable lacks its flags, its shape or its name"):
        MatFile(write(tmp_path / "a.mat", damaged), ("S",))


def test_other_variables_are_not_decoded(tmp_path: Path) -> None:
    """Not even where they are damaged, or would be large."""
    bomb = zlib.compress(variable(8, (1, 10**9), element(2, bytes(10**7)), b"regions"))
    damaged = variable(9, (-3, 5), b"\x00" * 3, b"captions")
    path = write(
        tmp_path / "a.mat", element(15, bomb)[: 8 + len(bomb)], damaged, variable(8, (1, 1), element(2, b"\7"))
    )
    tracemalloc.start()
    assert MatFile(path, ("S",)).ids("S").tolist() == [[7]]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**18


def test_claims_of_more_than_there_is(tmp_path: Path) -> None:
    """Neither huge shapes, nor nested cells, nor content that unpacks to gigabytes take memory or time."""
    path = tmp_path / "a.mat"
    nested = b""
    for _ in range(5000):
        nested = variable(1, (1, 1), nested, b"")
    head = variable(8, (1, 1), b"")[8:]
    bomb = zlib.compress(struct.pack("<II", 14, 2**31) + head + bytes(2**24), 9)
    liar = zlib.compress(struct.pack("<II", 14, 99) + head + bytes(2**24), 9)
    contents = [
        variable(8, (2**31 - 1, 2**31 - 1), element(2, b"\1")),
        variable(1, (2**31 - 1, 1), element(2, b"\1")),
        variable(1, (1, 1), nested),
        variable(8, (1, 1), struct.pack("<II", 2, 2**32 - 1)),
        struct.pack("<II", 15, len(bomb)) + bomb,
        struct.pack("<II", 15, len(liar)) + liar,
    ]
    started = time.perf_counter()
    tracemalloc.start()
    for content in contents:
        write(path, content)
        with pytest.raises(UserError, match=r"a\.mat: (it is damaged|variable 'S'|a variable claims more than)"):
            read_as_it_says(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
    assert time.perf_counter() - started < 5


def read_as_it_says(path: Path) -> None:
    """Variable S, as texts if it is a cell array."""
    is_cell = path.read_bytes()[128 + 24] == 1
    file = MatFile(path, ("S",))
    file.texts("S") if is_cell else file.ids("S")
