"""The device and the dtype to compute in, and the memory allocator of the CPU."""

import ctypes
from contextlib import suppress
from typing import NamedTuple

import torch

from gffnet.errors import UserError


class Precision(NamedTuple):
    """A dtype and why it was chosen."""

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """The dtype's name, such as `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")

    def describe(self, device: torch.device) -> str:
        """Describe the choice for the log: `bfloat16 on cpu: the CPU has AVX-512 BF16`."""
        return f"{self.name} on {device}: {self.reason}"


def pick_device(device: str = "auto") -> torch.device:
    """Return a device by its name in torch; `auto` is an NVIDIA GPU if there is one, else the CPU.

    Raises:
        UserError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return torch.device(device)


def pick_precision(name: str, device: torch.device) -> Precision:
    """Return `float32`, `bfloat16`, or for `auto` bfloat16 if the device computes it natively, else float32."""
    if name != "auto":
        return Precision(getattr(torch, name), "as asked")
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device)[0] >= 8:
            return Precision(torch.bfloat16, "the GPU computes bfloat16 natively")
        return Precision(torch.float32, "the GPU lacks native bfloat16")
    if device.type == "cpu":
        for feature, what in (("_is_amx_tile_supported", "AMX"), ("_is_avx512_bf16_supported", "AVX-512 BF16")):
            supported = getattr(torch.cpu, feature, None)  # absent from some versions of torch
            if supported and supported():
                return Precision(torch.bfloat16, f"the CPU has {what}")
        return Precision(torch.float32, "the CPU lacks AMX and AVX-512 BF16")
    return Precision(torch.float32, f"the safe choice on {device.type}")


_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1
"""Parameters of `mallopt`, from malloc.h."""


def keep_pages() -> None:
    """Make glibc keep freed memory for the next iteration. Does nothing with another C library.

    By default, glibc returns large blocks to the system and gets them anew, page by page and zeroed, in every
    iteration: 170,000 page faults in one with eight images of 240x240. With the pages kept, an iteration takes 0.92 of
    the time and 3 % more memory (docs/speed.md).
    """
    with suppress(OSError, AttributeError, TypeError):  # TypeError: the system has no such library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
