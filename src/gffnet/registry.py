"""Registries: what the names in recipes and on the command line stand for.

The names that the package provides are declared here, below every other package, so that a recipe is validated without
importing PyTorch. The objects are registered where they are defined, in `gffnet.models` and `gffnet.data`; registering
an object of one's own adds its name.
"""

from collections.abc import Callable
from typing import TypeVar

from gffnet.errors import UserError, unknown

T = TypeVar("T")
U = TypeVar("U")

NAMES: dict[str, list[str]] = {
    "data set": ["cityscapes", "ade20k", "pascal_context", "coco_stuff_10k", "camvid", "streets", "folder"],
    "context": ["pyramid_pooling", "dense_aspp", "none"],
    "fusion": ["none", "concat", "addition", "fpn", "gated_fpn", "gff"],
    "pyramid": ["none", "dense", "literal"],
}
"""The names that a recipe may use, by kind, in the order in which errors list them."""


class Registry(dict[str, T]):
    """Objects of one kind by name, in the order of registration. `kind` names them in errors.

    FUSIONS: Registry[type[Fusion]] = Registry("fusion")

    @FUSIONS.register("addition")
    class Addition(Fusion): ...

    FUSIONS["addition"]
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def register(self, name: str) -> Callable[[U], U]:
        """Return a decorator that registers an object as `name`.

        Raises:
            UserError: another object has this name. (The same class, defined anew in a notebook, replaces the old one.)
        """

        def decorator(entry: U) -> U:
            if name in self and _origin(self[name]) != _origin(entry):
                raise UserError(f"{self.kind} {name!r} is taken by {self[name]!r}: choose another name.")
            self[name] = entry  # type: ignore[assignment]  # U is T, which a decorator must not widen
            names = NAMES.setdefault(self.kind, [])
            if name not in names:
                names.append(name)
            return entry

        return decorator

    def __missing__(self, name: str) -> T:
        raise unknown(self.kind, name, self)


def _origin(entry: object) -> object:
    """Module and name of a class or function; of anything else, the object itself."""
    name = getattr(entry, "__qualname__", None)
    return entry if name is None else (getattr(entry, "__module__", None), name)
