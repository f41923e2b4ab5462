"""A file with bytes changed, lost, doubled or put in."""

import struct

import numpy as np

from tests.data.fuzz.target import Target


def changed(content: bytearray, rng: np.random.Generator, end: int) -> None:
    """Some bytes before `end` become others; the length stays."""
    at, length = int(rng.integers(end)), int(rng.integers(1, 17))
    length = min(length, end - at)
    match rng.integers(5):
        case 0:
            content[at] ^= 1 << int(rng.integers(8))
        case 1:
            content[at : at + length] = rng.bytes(length)
        case 2:
            content[at : at + length] = bytes(length)
        case 3:
            number = struct.pack("<I", int(rng.choice([1, 2**16, 2**31 - 1, 2**31, 2**32 - 1])))
            content[at : at + min(4, end - at)] = number[: end - at]
        case _:  # a block takes the place of another
            there = 4 * int(rng.integers(end // 4 + 1))
            at -= at % 4
            block = bytes(content[there : min(there + 4 * int(rng.integers(1, 9)), end)])[: end - at]
            content[at : at + len(block)] = block


def resized(content: bytearray, rng: np.random.Generator, head: bytes) -> bytearray:
    """Some bytes are lost, put in or doubled, or the file begins as another does."""
    at, length = int(rng.integers(len(content) + 1)), int(rng.integers(1, 33))
    match rng.integers(8):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + content[at + length :]
        case 2:
            return content[:at] + rng.bytes(length) + content[at:]
        case 3:
            return content[:at] + content[max(0, at - 8 * length) :]  # doubles what stands before
        case 4:
            return content + rng.bytes(length)
        case 5:
            return content + content[at:]
        case 6 if rng.integers(4) == 0:
            return bytearray()
        case _:
            length = int(rng.integers(1, max(2, len(head) // 2)))
            return bytearray(head[:length]) + content[length:]


def mutant(whole: bytes, target: Target, rng: np.random.Generator) -> bytes:
    content = bytearray(whole)
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        if rng.integers(2) and content:
            changed(content, rng, min(len(content), target.mutable or len(content)))
        elif target.mutable is None:
            content = resized(content, rng, target.heads[int(rng.integers(len(target.heads)))])
        else:
            at = int(rng.integers(len(content) + 1))
            content = content[:at] if rng.integers(2) else content + rng.bytes(1 + at % 9)
    return bytes(content) if content != whole else whole[:-1]
