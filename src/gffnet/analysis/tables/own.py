"""The same tables for data that the paper does not have: one for every data set, in the order of its Tables 1 and 2.

A row is a network, a protocol and the settings that a run has changed; rows are compared with the PSPNet of the same
backbone, protocol and settings.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from gffnet.analysis.tables.scores import Protocol, Scored, unlike
from gffnet.analysis.tables.section import Line, Score, Section, Spread, compared, seed_notes, spreads
from gffnet.data.catalog import dataset_classes, thin_classes
from gffnet.errors import UserError
from gffnet.evaluation.paper import paper_rows
from gffnet.recipe import ModelRecipe, Recipe, load_recipe, recipe_names

_CONTEXTS: dict[str, str] = {"pyramid_pooling": "PSPNet", "dense_aspp": "DenseASPP", "none": "FCN"}
_FUSIONS: dict[str, str] = {
    "none": "",
    "concat": " + Concat",
    "addition": " + Addition",
    "fpn": " + FPN",
    "gated_fpn": " + Gated FPN",
    "gff": " + GFF",
}
_PYRAMIDS: dict[str, str] = {"none": "", "dense": " + DFP", "literal": " + literal DFP"}
_KEYS = {
    "miou": ("miou",),
    "pixel_accuracy": ("pixel_accuracy",),
    "boundary_f": ("boundary_f", "3", "mean"),
    "small": ("iou_by_size", "small", "miou"),
}
_SCORES = (
    Score("miou", "mIoU", ours_only=True),
    Score("pixel_accuracy", "pixel accuracy", ours_only=True),
    Score("boundary_f", "boundary F, 3 px", ours_only=True),
    Score("small", "mIoU, small objects", ours_only=True),
)
_THIN = Score("thin", "mIoU, thin classes", ours_only=True)


class _Row(NamedTuple):
    """What tells rows apart."""

    recipe: str
    protocol: Protocol
    changes: tuple[str, ...]


def own_sections(scored: Sequence[Scored]) -> list[Section]:
    """Two for every data set with scores that stand in no table of the paper: all scores, and the IoU of its classes.

    The second has the networks that were scored, and is there only where the classes of the data set are known.
    """
    left = [run for run in scored if not run.in_paper]
    found = []
    for name in dict.fromkeys(str(run.protocol.get("dataset")) for run in left):
        whole = _section(name, [run for run in left if run.protocol.get("dataset") == name])
        found += [whole, *_by_class(whole)]
    return found


def method_name(model: ModelRecipe) -> str:
    """A network as the paper's tables would name it, such as `PSPNet + GFF + DFP`."""
    return _CONTEXTS[model.context] + _FUSIONS[model.fusion] + _PYRAMIDS[model.dense_pyramid]


def _section(dataset: str, scored: Sequence[Scored]) -> Section:
    """All rows of a data set: what was scored, and beside it the recipes that were not, if the paper has none of them.

    Of the recipes, those that lie in the folders of what was scored; all of the data set where those are not known.
    """
    rows: dict[_Row, list[Scored]] = {}
    for run in scored:
        rows.setdefault(_Row(run.name, run.measured, run.changes), []).append(run)
    shipped = recipe_names()
    recipes = {run.name: run.recipe for run in scored if run.recipe}
    recipes |= {name: load_recipe(name) for name in recipes if name in shipped}
    known = any(row.dataset == dataset for row in paper_rows())
    of_dataset = [name for name in shipped if name.startswith(f"{dataset}/")]
    folders = {_folder(name) for name in recipes if name in of_dataset} or {dataset}
    missing = [name for name in of_dataset if _folder(name) in folders and name not in recipes and not known]
    recipes |= {name: load_recipe(name) for name in missing}
    models = {name: recipe.model for name, recipe in recipes.items()}
    usual = min((row.protocol for row in rows), key=lambda p: -sum(row.protocol == p for row in rows))
    called = {name: _called(name, models, known) for name in {*models, *(row.recipe for row in rows)}}
    lines = {row: _line(row, runs, called[row.recipe], usual) for row, runs in rows.items()}
    lines |= {_Row(name, usual, ()): Line(called[name], recipe=name) for name in missing}
    ordered = sorted(lines, key=lambda row: _order(row, models, usual))
    return Section(
        dataset,
        f"{dataset}: what stands in no row of the paper" if known else f"{dataset}: not in the paper",
        (*_SCORES, *[_THIN] * bool(thin_classes(dataset))),
        [_with_gains(row, lines, recipes) for row in ordered],
        f"Measured by: {', '.join(usual)}, unless a row says otherwise. In brackets: the difference to the PSPNet of "
        "the same backbone, protocol and settings, with its standard error, of pairs where seeds are the same."
        + (f" Thin classes: {', '.join(thin_classes(dataset))}." if thin_classes(dataset) else ""),
    )


def _by_class(whole: Section) -> list[Section]:
    """The IoU of every class, of the lines of a section that have been run."""
    try:
        names = dataset_classes(whole.name).names
    except UserError:  # they are the user's own
        return []
    lines = [line for line in whole.lines if line.ours.keys() >= set(names)]
    if not lines:
        return []
    scores = [Score(name, name, ours_only=True) for name in names]
    return [Section(f"{whole.name}_classes", f"{whole.name}: IoU by class", scores, lines, by_class=True)]


def _line(row: _Row, runs: Sequence[Scored], called: str, usual: Protocol) -> Line:
    """One row, without its gains."""
    otherwise = [] if row.protocol == usual else [part for part in row.protocol if part not in usual]
    method = ", ".join([called, *otherwise, *row.changes])
    seeds = tuple(run.seed for run in runs)
    measured = ", ".join(row.protocol)
    ours = _scores(runs)
    return Line(method, recipe=row.recipe, protocol=measured, ours=ours, seeds=seeds, notes=seed_notes(runs))


def _scores(runs: Sequence[Scored]) -> dict[str, Spread]:
    """All scores of the runs of one row."""
    dataset = str(runs[0].protocol.get("dataset"))
    classes = runs[0].scores.get("per_class", {})
    found = spreads(runs, {**_KEYS, **{name: ("per_class", name) for name in classes}})
    thin = [found[name].values for name in thin_classes(dataset) if name in found]
    if thin and len(thin) == len(thin_classes(dataset)):
        found["thin"] = Spread(tuple(fmean(of_run) for of_run in zip(*thin, strict=True)))
    return found


def _with_gains(row: _Row, lines: Mapping[_Row, Line], recipes: Mapping[str, Recipe]) -> Line:
    """A row with what it gains over its PSPNet, if that was scored."""
    line, own = lines[row], recipes.get(row.recipe)
    for other, baseline in lines.items():
        recipe = recipes.get(other.recipe)
        if own and recipe and other[1:] == row[1:] and _is_baseline(recipe, own):
            return compared(line, baseline)
    return line


def _is_baseline(recipe: Recipe, of: Recipe) -> bool:
    """Whether a recipe is another's without its fusion, and the same in everything else."""
    if recipe.model.fusion != "none" or of.model.fusion == "none":
        return False
    same = (recipe.model.backbone, recipe.model.context) == (of.model.backbone, of.model.context)
    return same and all(key.startswith("model.") for key in unlike(of, recipe))


def _folder(recipe: str) -> str:
    """The folder that a recipe lies in."""
    return recipe.rpartition("/")[0]


def _called(name: str, models: Mapping[str, ModelRecipe], exact: bool) -> str:
    """A network as it is named; with its recipe if `exact` or if others are named so too; else by what is known."""
    if name not in models:
        return name
    method = method_name(models[name])
    alike = [other for other, model in models.items() if method_name(model) == method]
    return f"{method} ({name})" if exact or len(alike) > 1 else method


def _order(row: _Row, models: Mapping[str, ModelRecipe], usual: Protocol) -> tuple[object, ...]:
    """By backbone, then as Tables 1 and 2, then the usual protocol and settings first; networks not known last."""
    last = (row.protocol != usual, len(row.changes), row)
    if row.recipe not in models:
        return (1, *last)
    model = models[row.recipe]
    backbone = f"{model.backbone.name} {model.backbone.output_stride}"
    context, fusion, pyramid = (
        list(names).index(name)
        for names, name in ((_CONTEXTS, model.context), (_FUSIONS, model.fusion), (_PYRAMIDS, model.dense_pyramid))
    )
    return (0, backbone, context, fusion, pyramid, *last)
