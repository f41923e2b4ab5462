"""Imports put off: what another package imports but hardly ever uses is loaded when something of it is called."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """Stands for a module that is not loaded yet: its attributes are functions that load it and call its own."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)

        return self._later(lambda: getattr(import_module(self.__name__), attribute))

    def _later(self, make: Callable[[], Any]) -> Any:
        """The function that `make` returns, made at its first call. Before the module may be loaded, it decorates."""
        make = cache(make)

        def call(*arguments: Any, **options: Any) -> Any:
            if sys.modules.get(self.__name__) is self:
                return self._later(lambda: make()(*arguments, **options))
            return make()(*arguments, **options)

        return call


@contextmanager
def deferred(*modules: str) -> Iterator[None]:
    """Within this context, importing one of `modules`, or names of theirs, does not load it.

    What is imported so are functions, which load the module at their first call and then do what its own do. After the
    context the module is imported as ever. For modules of which the context uses functions and decorators only; what is
    loaded already, or not installed, is left alone.
    """
    waiting = {
        name: _Deferred(name) for name in modules if name not in sys.modules and find_spec(name.partition(".")[0])
    }
    sys.modules.update(waiting)
    try:
        yield
    finally:
        for name, module in waiting.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
