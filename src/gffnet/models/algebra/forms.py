"""One function, two forms: as the paper writes it, and as it is cheapest to execute."""

from torch import nn


class TwoForms(nn.Module):
    """A module whose function has a plain form (as written) and a cheap one (as executed).

    Both have the same parameters and give the same values up to rounding; `plain` picks one. The plain form is there
    to be compared with: in tests, in the cost table, in benchmarks.
    """

    plain: bool = False


def set_plain(module: nn.Module, plain: bool = True) -> None:
    """Have `module` and all its parts execute their plain form (or, with False, the cheap one)."""
    for part in module.modules():
        if isinstance(part, TwoForms):
            part.plain = plain
