"""Which device and which number format to compute in."""

import ctypes
from contextlib import suppress
from typing import NamedTuple

import torch

from gffnet.errors import UserError


class Precision(NamedTuple):
    """A number format and why it was chosen."""

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """The format's name, such as `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")

    def told(self, device: torch.device) -> str:
        """The choice in words, for the log: `bfloat16 on cpu: the CPU has AVX-512 BF16`."""
        return f"{self.name} on {device}: {self.reason}"


def pick_device(device: str = "auto") -> torch.device:
    """`auto`: an NVIDIA GPU where there is one, else the CPU; or any name that torch knows.

    Raises:
        UserError: no such device here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return torch.device(device)


def pick_precision(name: str, device: torch.device) -> Precision:
    """`float32`, `bfloat16`, or `auto`: bfloat16 where the hardware computes it natively, else float32."""
    if name != "auto":
        return Precision(getattr(torch, name), "as asked")
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device)[0] >= 8
        return Precision(*_choice(native, "the GPU computes bfloat16 natively", "the GPU lacks native bfloat16"))
    if device.type == "cpu":
        if _cpu_has("_is_amx_tile_supported"):
            return Precision(torch.bfloat16, "the CPU has AMX")
        native = _cpu_has("_is_avx512_bf16_supported")
        return Precision(*_choice(native, "the CPU has AVX-512 BF16", "the CPU lacks AMX and AVX-512 BF16"))
    return Precision(torch.float32, f"the safe choice on {device.type}")


def _choice(native: bool, yes: str, no: str) -> tuple[torch.dtype, str]:
    return (torch.bfloat16, yes) if native else (torch.float32, no)


def _cpu_has(feature: str) -> bool:
    """Ask torch for a feature of the CPU; versions that cannot tell say no."""
    ask = getattr(torch.cpu, feature, None)
    return bool(ask and ask())


# Memory that is freed on a CPU is kept for the next iteration.
#
# By default glibc gives large blocks back to the system when they are freed, and gets them anew, page by page and zeroed,
# in every iteration: 170,000 page faults in one of eight images of 240x240. Kept, an iteration takes 0.92 of the time,
# for 3 % more memory (docs/speed.md).


_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
"""Parameters of `mallopt`, as malloc.h has them."""


def keep_pages() -> None:
    """Have this process keep what it frees. Does nothing where the C library is another one than glibc."""
    with suppress(OSError, AttributeError, TypeError):  # TypeError: a system that has no library of that kind
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)
