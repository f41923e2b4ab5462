"""Registries: registration, lookup, and the names that recipes may use."""

import pytest

from gffnet import registry
from gffnet.errors import UserError
from gffnet.recipe import ModelRecipe, RecipeError
from gffnet.registry import NAMES, Registry


@pytest.fixture(autouse=True)
def _own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "NAMES", NAMES)
    for kind in NAMES:
        monkeypatch.setitem(NAMES, kind, list(NAMES[kind]))


def test_objects_are_registered_by_call_and_as_a_decorator() -> None:
    numbers: Registry[type[float]] = Registry("fusion")

    @numbers.register("real")
    class Real(float):
        pass

    assert numbers.register("float")(float) is float
    assert list(numbers) == ["real", "float"]
    assert numbers["real"] is Real
    with pytest.raises(UserError, match=r"^fusion 'rael' is unknown\. Did you mean 'real'\? Allowed: float, real\.$"):
        numbers["rael"]


def test_a_name_is_taken_once() -> None:
    kinds: Registry[type] = Registry("fusion")
    kinds.register("real")(float)
    kinds.register("real")(float)
    with pytest.raises(UserError, match=r"^fusion 'real' is taken by <class 'float'>: choose another name\.$"):
        kinds.register("real")(int)

    def define() -> type:
        class Mine:
            pass

        return Mine

    kinds.register("mine")(define())
    newest = kinds.register("mine")(define())  # a cell of a notebook that runs again
    assert kinds["mine"] is newest


def test_recipes_take_a_registered_name() -> None:
    with pytest.raises(RecipeError, match=r"fusion: must be one of 'none', 'concat', .*, got 'maximum'"):
        ModelRecipe(fusion="maximum")
    Registry("fusion").register("maximum")(object())
    assert ModelRecipe(fusion="maximum").fusion == "maximum"
    with pytest.raises(RecipeError, match=r"'gff', 'maximum', got 'maxim'\. Did you mean 'maximum'\?"):
        ModelRecipe(fusion="maxim")
