"""Memory that is freed on a CPU is kept for the next iteration.

By default glibc gives large blocks back to the system when they are freed, and gets them anew, page by page and zeroed,
in every iteration: 170,000 page faults in one of eight images of 240x240. Kept, an iteration takes 0.92 of the time,
for 3 % more memory (docs/speed.md).
"""

import ctypes
from contextlib import suppress

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1
"""Parameters of `mallopt`, as malloc.h has them."""


def keep_pages() -> None:
    """Have this process keep what it frees. Does nothing where the C library is another one than glibc."""
    with suppress(OSError, AttributeError, TypeError):  # TypeError: a system that has no library of that kind
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)
