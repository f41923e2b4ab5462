"""Registries: what the names in recipes and on the command line stand for; and plug-ins, which add names.

Fusions, pyramids, context modules, backbones, data sets and losses are registered under a name where they are defined,
those of the package and those of its users alike:

    @gffnet.register_fusion("maximum")
    class Maximum(gffnet.Fusion): ...

A plug-in is a module that registers something: `mine` (in the current folder or installed) or `path/mine.py`. It is
imported where a recipe names it (`plugins: [mine]`) or a command does (`--plugin mine`). Installed packages may offer
plug-ins as entry points of the group `gffnet.plugins`; they are imported once an unknown name is looked up.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from traceback import extract_tb
from typing import Any, TypeVar

from gffnet.errors import UserError, unknown
from gffnet.files import as_path

T = TypeVar("T")
U = TypeVar("U")

_HOMES = {
    "data set": "gffnet.data.datasets",
    "context": "gffnet.models.context",
    "fusion": "gffnet.models.fusion",
    "pyramid": "gffnet.models.pyramid",
    "backbone": "gffnet.models.backbones",
    "loss": "gffnet.training.losses",
}
"""The modules that register what the package provides, by kind."""
_ENTRY_POINTS = "gffnet.plugins"
_REGISTRIES: dict[str, "Registry[Any]"] = {}
_plugins: dict[str, str] = {}
"""The plug-ins that were imported: the names by which they were given, by the names of their modules."""

log = logging.getLogger("gffnet")


class Registry(dict[str, T]):
    """Objects of one kind by name, in the order of registration.

    FUSIONS: Registry[type[Fusion]] = Registry("fusion", Fusion, also=("none",))

    @FUSIONS.register("addition")
    class Addition(Fusion): ...

    FUSIONS["addition"]
    """

    def __init__(self, kind: str, base: type | None = None, also: tuple[str, ...] = ()) -> None:
        """Initialise.

        Args:
            kind: names the objects in errors.
            base: what they must be subclasses of; None: anything.
            also: names that recipes may use although they stand for no object.
        """
        super().__init__()
        self.kind, self.base, self.also = kind, base, also
        self.modules: dict[str, str] = {}
        """The modules that registered the names."""
        _REGISTRIES.setdefault(kind, self)

    def register(self, name: str) -> Callable[[U], U]:
        """Return a decorator that registers an object as `name`.

        Raises:
            UserError: another object has this name (the same class, defined anew in a notebook, replaces the old one),
                or the object is not a subclass of `base`.
        """

        if not isinstance(name, str):
            raise UserError(f'{self.kind}: the name is missing. Write @gffnet.register_...("a name") above {name!r}.')

        def decorator(entry: U) -> U:
            # U is T, which a decorator must not widen.
            self._add(name, entry, _calling_module())  # type: ignore[arg-type]
            return entry

        return decorator

    def __setitem__(self, name: str, entry: T) -> None:
        self._add(name, entry, _calling_module())

    def _add(self, name: str, entry: T, module: str) -> None:
        if not isinstance(name, str) or not name or name in self.also or any(c.isspace() or c in "+/'\"" for c in name):
            raise UserError(f"{self.kind} {name!r}: choose another name, a word without spaces, `+` and `/`.")
        if self.base is not None and not (isinstance(entry, type) and issubclass(entry, self.base)):
            home = f"{self.base.__module__}.{self.base.__name__}"
            raise UserError(f"{self.kind} {name!r} is {entry!r}: it must be a subclass of {home}.")
        if name in self and origin(self[name]) != origin(entry):
            raise UserError(f"{self.kind} {name!r} is taken by {self[name]!r}: choose another name.")
        super().__setitem__(name, entry)
        self.modules[name] = module

    def __missing__(self, name: str) -> T:
        _load_entry_points()
        if name in self:
            return self[name]
        raise unknown(self.kind, str(name), self)


def names(kind: str, wanted: str | None = None) -> list[str]:
    """The registered names of a kind, such as `fusion`, in order.

    Args:
        kind: of `data set`, `context`, `fusion`, `pyramid`, `backbone`, `loss`.
        wanted: installed plug-ins are imported only if this name is not registered yet; None: in any case.
    """
    registry = _registry(kind)
    if wanted is None or wanted not in (*registry.also, *registry):
        _load_entry_points()
    return [*registry.also, *registry]


def _registry(kind: str) -> "Registry[Any]":
    import_module(_HOMES[kind])
    return _REGISTRIES[kind]


def plugin_of(kind: str, name: str) -> str | None:
    """The plug-in that registered a name, as it may be given to `load_plugins`; None for the package's own."""
    registry = _REGISTRIES.get(kind)  # None: its module is not imported, so no plug-in has registered anything
    module = registry.modules[name] if registry is not None and name in registry else __name__
    return None if module.partition(".")[0] == __name__.partition(".")[0] else _plugins.get(module, module)


def _calling_module() -> str:
    """The module whose code calls the function that calls this one."""
    return str(sys._getframe(2).f_globals.get("__name__", "__main__"))


def origin(entry: object) -> object:
    """Module and name of a class or function; of anything else, the object itself."""
    name = getattr(entry, "__qualname__", None)
    return entry if name is None else (getattr(entry, "__module__", None), name)


# What users register. Each returns a decorator, and raises `UserError` as `Registry.register` does.


def register_fusion(name: str) -> Callable[[U], U]:
    """Register a subclass of `gffnet.Fusion`: `model.fusion` in recipes, `fusion` of `GFFNet`."""
    return _registry("fusion").register(name)


def register_pyramid(name: str) -> Callable[[U], U]:
    """Register a module with the interface of `gffnet.models.pyramid.FeaturePyramid`: `model.dense_pyramid`."""
    return _registry("pyramid").register(name)


def register_context(name: str) -> Callable[[U], U]:
    """Register a subclass of `gffnet.models.context.Context`: `model.context`."""
    return _registry("context").register(name)


def register_backbone(name: str) -> Callable[[U], U]:
    """Register a subclass of `gffnet.models.backbones.Backbone`: `model.backbone.name`, beside the models of timm."""
    return _registry("backbone").register(name)


def register_dataset(name: str) -> Callable[[U], U]:
    """Register a subclass of `gffnet.Dataset`: `data.name` in recipes, `--dataset` of commands."""
    return _registry("data set").register(name)


def register_loss(name: str) -> Callable[[U], U]:
    """Register a loss, a function or module of logits (B, K, H, W) and labels (B, H, W): `training.loss.terms`."""
    return _registry("loss").register(name)


# Plug-ins


def load_plugins(plugins: Iterable[str], folder: Path | None = None) -> list[str]:
    """Import plug-ins, which thereby register what they define. A plug-in that is imported already stays as it is.

    Args:
        plugins: names of modules, or paths of Python files.
        folder: where they are looked for first, such as that of a recipe; then in the current one, then among the
            installed modules.

    Returns:
        Their names, by which they are found from any folder on this machine.

    Raises:
        UserError: there is no such module or file, or it fails.
    """
    return [_load(plugin, [*([] if folder is None else [folder]), Path()]) for plugin in plugins]


def _load(plugin: str, folders: list[Path]) -> str:
    if plugin == "__main__" or plugin in _plugins.values():  # a script or notebook has registered its own
        return plugin
    if plugin in _plugins:
        return _plugins[plugin]
    module = Path(plugin).stem if plugin.endswith(".py") else plugin
    root, file = _find(plugin, folders)
    if file is None and plugin.endswith(".py"):
        if module in _plugins:  # recorded in another folder, and given from this one
            return _plugins[module]
        raise UserError(f"plug-in {plugin}: there is no such file. Give its path, or the name of a module.")
    if file is not None and str(root.resolve()) not in sys.path:
        sys.path.insert(0, str(root.resolve()))  # also for processes that load data, which import it anew
    try:
        loaded = import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _failed(plugin, error) from None
        places = ", ".join(dict.fromkeys(str(folder.resolve()) for folder in folders))
        raise UserError(
            f"plug-in {plugin!r}: there is no such module in {places}, nor is it installed. Run gffnet in its folder, "
            "or give the path of the file."
        ) from None
    except Exception as error:  # it may raise anything
        raise _failed(plugin, error) from None
    if file is not None and not _same_file(getattr(loaded, "__file__", None), file):
        raise UserError(f"plug-in {plugin}: Python has another module {module!r} ({loaded.__file__}). Rename the file.")
    # Files go by their whole path, so that a run can be resumed from any folder.
    _plugins[module] = str(file.resolve()) if file is not None and "." not in module else plugin
    return _plugins[module]


def _find(plugin: str, folders: list[Path]) -> tuple[Path, Path | None]:
    """The file of a plug-in, and the folder that it is imported from; None for a module that is in none of the folders.

    Raises:
        UserError: it is neither a file nor a module by its name.
    """
    if plugin.endswith(".py"):
        file = next((path for folder in folders if (path := folder / as_path(plugin)).is_file()), None)
        return (Path() if file is None else file.parent), file
    if not all(part.isidentifier() for part in plugin.split(".")):
        raise UserError(f"plug-in {plugin!r} must be the name of a module, such as mine, or a file, such as mine.py.")
    inner = Path(*plugin.split("."))
    for folder in folders:
        for path in (folder / inner.with_suffix(".py"), folder / inner / "__init__.py"):
            if path.is_file():
                return folder, path
    return Path(), None


def is_loaded(plugin: str) -> bool:
    """Whether the module of a plug-in, given by its name or its file, is imported."""
    return (Path(plugin).stem if plugin.endswith(".py") else plugin) in sys.modules


def _same_file(path: str | None, other: Path) -> bool:
    return path is not None and os.path.realpath(path) == os.path.realpath(other)


def _failed(plugin: str, error: Exception) -> UserError:
    """The error for a plug-in that cannot be imported, with the line that failed."""
    if isinstance(error, UserError):
        return UserError(f"plug-in {plugin}: {error}")
    place = ""
    if isinstance(error, SyntaxError):
        place = f" at {error.filename}:{error.lineno}"
    elif frames := [frame for frame in extract_tb(error.__traceback__) if "importlib" not in frame.filename]:
        place = f" at {frames[-1].filename}:{frames[-1].lineno}"
    return UserError(f"plug-in {plugin} cannot be imported: {type(error).__name__}: {error}{place}.")


_entry_points_loaded = False


def _load_entry_points() -> None:
    """Import the plug-ins of installed packages, once. One that fails is reported and left out."""
    global _entry_points_loaded
    if _entry_points_loaded:
        return
    _entry_points_loaded = True
    for point in entry_points(group=_ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # it may raise anything
            log.warning("installed plug-in %s is left out: %s", point.name, _failed(point.value, error))
