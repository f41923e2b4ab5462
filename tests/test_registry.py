"""Registries and plug-ins: registration, lookup, the names that recipes may use, and modules of a user's own."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import yaml

import gffnet
from gffnet import registry
from gffnet.cli.main import main
from gffnet.errors import UserError
from gffnet.models.backbones import Backbone
from gffnet.models.fusion import FUSIONS, Addition, Fusion
from gffnet.recipe import ModelRecipe, Recipe, RecipeError, from_mapping, load_recipe
from gffnet.registry import Registry, load_plugins, names, plugin_of
from gffnet.training.losses import LOSSES

PLUGIN = """
import gffnet

@gffnet.register_fusion("{name}")
class Maximum(gffnet.Fusion):
    pass
"""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test registers and imports is forgotten."""
    with patch.dict(FUSIONS), patch.dict(registry._plugins), patch.object(sys, "path", sys.path[:]):
        before = set(sys.modules)
        yield
        for module in [name for name in sys.modules if name not in before and name.startswith("plugin_")]:
            del sys.modules[module]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_objects_are_registered_by_call_as_a_decorator_and_by_item() -> None:
    numbers: Registry[type[float]] = Registry("number", float)

    @numbers.register("real")
    class Real(float):
        pass

    assert numbers.register("float")(float) is float
    numbers["other"] = Real
    assert list(numbers) == ["real", "float", "other"]
    assert numbers["real"] is Real
    with pytest.raises(UserError, match=r"^number 'rael' is unknown\. Did you mean 'real'\? Allowed: float, other, re"):
        numbers["rael"]
    with pytest.raises(UserError, match=r"^number 'int' is <class 'int'>: it must be a subclass of builtins\.float\."):
        numbers["int"] = int  # type: ignore[assignment]
    for wrong in ("", "a b", "a/b", "train+val"):
        with pytest.raises(UserError, match="choose another name"):
            numbers[wrong] = Real


def test_a_name_is_taken_once() -> None:
    kinds: Registry[type] = Registry("kind")
    kinds.register("real")(float)
    kinds.register("real")(float)
    with pytest.raises(UserError, match=r"^kind 'real' is taken by <class 'float'>: choose another name\.$"):
        kinds.register("real")(int)

    def define() -> type:
        class Mine:
            pass

        return Mine

    kinds.register("mine")(define())
    newest = kinds.register("mine")(define())  # a cell of a notebook that runs again
    assert kinds["mine"] is newest


def test_recipes_take_the_names_that_are_registered() -> None:
    with pytest.raises(RecipeError, match=r"fusion: must be one of 'none', 'concat', .*, got 'maximum'"):
        ModelRecipe(fusion="maximum")

    class Maximum(Fusion):
        pass

    FUSIONS["maximum"] = Maximum  # what a user tries first
    assert ModelRecipe(fusion="maximum").fusion == "maximum"
    assert names("fusion")[-1] == "maximum"
    with pytest.raises(RecipeError, match=r"'gff', 'maximum', got 'maxim'\. Did you mean 'maximum'\?"):
        ModelRecipe(fusion="maxim")
    with pytest.raises(UserError, match="'none': choose another name"):
        gffnet.register_fusion("none")(Maximum)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("fusion", ["none", "concat", "addition", "fpn", "gated_fpn", "gff"]),
        ("pyramid", ["none", "dense", "literal"]),
        ("context", ["pyramid_pooling", "dense_aspp", "none"]),
        ("backbone", []),
    ],
)
def test_the_names_of_the_package_follow_from_its_registrations(kind: str, expected: list[str]) -> None:
    assert names(kind) == expected
    assert all(plugin_of(kind, name) is None for name in expected)


@pytest.mark.slow
def test_the_names_are_known_in_a_fresh_process() -> None:
    code = "from gffnet.registry import names; print(sorted(names('data set')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = ["ade20k", "camvid", "cityscapes", "coco_stuff_10k", "folder", "pascal_context", "streets"]
    assert done.stdout.strip() == str(expected)


def test_a_name_is_of_the_module_that_registers_it() -> None:
    """Of a loss that is an object of torch, or a class of another library, the plug-in is the module that names it."""
    with patch.dict(LOSSES):
        gffnet.register_loss("smooth")(torch.nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=255))
        LOSSES["partial"] = partial(torch.nn.functional.cross_entropy, ignore_index=255)
        assert plugin_of("loss", "smooth") == plugin_of("loss", "partial") == __name__


def test_a_backbone_does_not_shadow_one_of_timm() -> None:
    with pytest.raises(UserError, match="'resnet18' is a model of timm: choose another name"):
        gffnet.register_backbone("resnet18")(Backbone)


# Plug-ins


def test_a_module_in_the_current_folder(folder: Path) -> None:
    (folder / "plugin_a.py").write_text(PLUGIN.format(name="maximum"))
    file = str(folder / "plugin_a.py")
    assert load_plugins(["plugin_a"]) == load_plugins(["plugin_a", "plugin_a.py"])[:1] == [file]
    recipe = load_recipe("camvid/pspnet_r18", ["model.fusion=maximum"])
    assert recipe.plugins == (file,), "what a recipe uses, it names, as it is found from any folder"
    assert load_recipe("camvid/pspnet_r18").plugins == ()


def test_a_recipe_names_plug_ins_beside_it(folder: Path) -> None:
    (folder / "own" / "package").mkdir(parents=True)
    (folder / "own/plugin_b.py").write_text(PLUGIN.format(name="maximum"))
    (folder / "own/below.yaml").write_text("base: camvid/pspnet_r18\nplugins: [plugin_b]\n")
    (folder / "own/top.yaml").write_text("base: below.yaml\nmodel: {fusion: maximum}\n")
    recipe = load_recipe("own/top.yaml")
    assert recipe.plugins == (str(folder / "own/plugin_b.py"),)
    stored = folder / "recipe.yaml"
    stored.write_text(yaml.safe_dump(recipe.to_mapping()))
    code = f"import gffnet; print(gffnet.load_recipe({str(stored)!r}).model.fusion)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert done.stdout == "maximum\n"


def test_a_file_of_a_subfolder_and_by_override(folder: Path) -> None:
    (folder / "own").mkdir()
    (folder / "own/plugin_c.py").write_text(PLUGIN.format(name="maximum"))
    recipe = load_recipe("camvid/pspnet_r18", ["plugins=[own/plugin_c.py]", "model.fusion=maximum"])
    assert recipe.plugins == (str(folder / "own/plugin_c.py"),)


def test_a_file_that_was_recorded_in_another_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("own", "elsewhere"):
        (folder / name).mkdir()
    (folder / "own/plugin_k.py").write_text(PLUGIN.format(name="maximum"))
    (folder / "recipe.yaml").write_text("plugins: [/before/plugin_k.py]\nmodel: {fusion: maximum}\n")
    monkeypatch.chdir(folder / "elsewhere")
    with pytest.raises(UserError, match=r"plug-in /before/plugin_k\.py: there is no such file"):
        load_recipe("../recipe.yaml")
    load_plugins(["../own/plugin_k.py"])
    assert load_recipe("../recipe.yaml").plugins == (str(folder / "own/plugin_k.py"),)


def test_nothing_in_a_run_folder_is_imported(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run/run.json").touch()
    (folder / "run/plugin_evil.py").write_text("raise SystemExit")
    for plugin in ("plugin_evil", "plugin_evil.py", "run/plugin_evil.py", folder / "run/plugin_evil.py"):
        (folder / "run/recipe.yaml").write_text(f"plugins: [{plugin}]\n")
        with pytest.raises(UserError, match=r"there is no such|from which nothing is imported"):
            load_recipe(folder / "run/recipe.yaml")


def test_a_decorator_without_its_name() -> None:
    with pytest.raises(UserError, match=r'the name is missing. Write @gffnet.register_...\("a name"\) above'):

        @gffnet.register_fusion  # type: ignore[arg-type]
        class Maximum(Fusion):
            pass


@pytest.mark.parametrize(
    ("plugin", "text", "message"),
    [
        ("plugin_none", None, r"plug-in 'plugin_none': there is no such module in .*, nor is it installed"),
        ("plugin_none.py", None, r"plug-in plugin_none\.py: there is no such file"),
        ("not-a-module", None, r"plug-in 'not-a-module' must be the name of a module"),
        ("plugin_d", "import nonsense_of_mine", r"plug-in plugin_d cannot be imported: ModuleNotFoundError: .*:1\."),
        ("plugin_e", "a = (", r"plug-in plugin_e cannot be imported: SyntaxError: .*plugin_e\.py:1\."),
        ("plugin_f", "\n1 / 0", r"plug-in plugin_f cannot be imported: ZeroDivisionError: .*plugin_f\.py:2\."),
        ("plugin_g", PLUGIN.format(name="gff"), r"plug-in plugin_g: fusion 'gff' is taken by .*GatedFullyFusion"),
        ("json.py", "", r"Python has another module 'json'.*Rename the file"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded(
    folder: Path, capsys: pytest.CaptureFixture[str], plugin: str, text: str | None, message: str
) -> None:
    if text is not None:
        (folder / f"{plugin.removesuffix('.py')}.py").write_text(text)
    with pytest.raises(UserError, match=message):
        load_plugins([plugin])
    assert main(["cost", "camvid/pspnet_r18", "--plugin", plugin]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: plug-in")


def test_a_record_is_read_without_its_plug_ins() -> None:
    mapping = {**Recipe().to_mapping(), "plugins": ["plugin_h"]}
    mapping["model"] |= {"fusion": "maximum"}
    assert from_mapping(Recipe, mapping, "record", record=True).model.fusion == "maximum"
    with pytest.raises(UserError, match=r"got 'maximum'.* The plug-in plugin_h registers it: add --plugin plugin_h"):
        from_mapping(Recipe, mapping, "recipe")
    with pytest.raises(UserError, match="registered by a script or notebook"):
        from_mapping(Recipe, {**mapping, "plugins": ["__main__"]}, "recipe")
    with pytest.raises(UserError, match="plugins"):
        from_mapping(Recipe, {"plugins": "mine"}, "recipe")


def test_entry_points_of_installed_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "plugin_i.py").write_text(PLUGIN.format(name="installed"))
    monkeypatch.syspath_prepend(folder)
    points = [EntryPoint("broken", "plugin_missing", "gffnet.plugins"), EntryPoint("i", "plugin_i", "gffnet.plugins")]
    asked = []

    def entry_points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return points

    monkeypatch.setattr(registry, "entry_points", entry_points)
    monkeypatch.setattr(registry, "_entry_points_loaded", False)
    assert ModelRecipe(fusion="gff").fusion == "gff"
    assert asked == [], "looked up for unknown names only"
    assert ModelRecipe(fusion="installed").fusion == "installed"
    assert (asked, plugin_of("fusion", "installed")) == (["gffnet.plugins"], "plugin_i")
    assert FUSIONS["addition"] is Addition
