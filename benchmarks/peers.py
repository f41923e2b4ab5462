"""Networks that users would pick instead: trained as a GFFNet is, and compared by accuracy and speed.

    python benchmarks/peers.py train --root data/camvid --out runs/peers [--networks Unet FPN ...] [--seeds 0 1 2]
    python benchmarks/peers.py table runs/peers runs/ablation [--out benchmarks/camvid/peers]

`train` trains networks of segmentation_models_pytorch, with their defaults, on the encoder, from the weights, on the
crops in their order, with the loss, optimiser and schedule of a recipe (`--recipe camvid/gffnet_lite0`), without one of
CamVid's drives, and scores them on that drive. Crops and images are padded to multiples of 32 pixels, which these
networks ask for. OUT/NETWORK/seed_S holds scores.json, as `gffnet evaluate` writes it; what is finished is kept, and an
interrupted training resumes at its last checkpoint. Another drive, recipe or `--set` takes another OUT.

`table` times every network for one image of 360x480, interleaved in one process, with random weights: from uint8 pixels
to the label map in inference mode, GFFNets as `gffnet predict` runs them in float32, peers channels-last, normalisation
included. It prints mIoU, milliseconds and parameters, and draws them as a chart (peers.json and peers.svg in --out, in
place of those of an earlier table).
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from gffnet.cli.arguments import Parser, folder, path
from gffnet.data.dataset import Dataset
from gffnet.data.datasets import dataset_classes, open_dataset
from gffnet.errors import UserError
from gffnet.evaluation.results import SCORES, read_result, write_scores
from gffnet.files import atomic_write
from gffnet.inference.precision import keep_pages, pick_precision
from gffnet.inference.predictor import Predictor
from gffnet.inference.sliding_window import most_probable
from gffnet.metrics.scores import ScoreAccumulator, Scores
from gffnet.models.backbones import build_backbone
from gffnet.models.gffnet import build_network
from gffnet.models.model_io import ModelConfig
from gffnet.recipe import EvaluationRecipe, Recipe, load_recipe, load_recorded
from gffnet.recipe.describe import method_name
from gffnet.training.data import SegmentationDataModule
from gffnet.training.losses import make_loss
from gffnet.training.optim import Schedule
from gffnet.training.run_folder import RECIPE
from gffnet.training.train import class_statistics
from harness import add_count, interleaved, machine, make_folder, make_parser, ratios, run, spread, timing

NETWORKS = ("Unet", "FPN", "PSPNet", "DeepLabV3Plus", "UPerNet", "Segformer")
SIZE = (360, 480)
CHECKPOINT, EVERY = "last.pt", 50
RECORD, CHART = "peers.json", "peers.svg"


class Peer(nn.Module):
    """A network of segmentation_models_pytorch that takes images as a GFFNet does: uint8 or floats in 0..255."""

    def __init__(self, name: str, recipe: Recipe, num_classes: int, pretrained: bool) -> None:
        super().__init__()
        backbone = recipe.model.backbone
        self.network = getattr(smp, name)(f"tu-{backbone.name}", encoder_weights=None, classes=num_classes)
        if pretrained:
            state = build_backbone(backbone).state_dict()
            own = self.network.encoder.state_dict()
            # Both are timm's, within modules of other names; a peer may leave out the last stages.
            inner = {name.partition(".")[2]: tensor for name, tensor in state.items()}
            self.network.encoder.load_state_dict({name: inner[name.partition(".")[2]] for name in own})
        for name in ("mean", "std"):
            values = torch.tensor(getattr(recipe.model, name)).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) → logits (B, K, H, W)."""
        height, width = images.shape[2:]
        x = (images.float() - self.mean) / self.std
        x = nn.functional.pad(x, (0, -width % 32, 0, -height % 32)).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(x)
        return logits[..., :height, :width]


def train(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Train and score one network, unless that is done."""
    out = arguments.out / name / f"seed_{seed}"
    splits = (f"without_{arguments.drive}", f"only_{arguments.drive}")
    trained = {"split": splits[1], "trained_by": arguments.recipe, "set": [*arguments.set]}
    if (out / SCORES).is_file():
        check_same(out / SCORES, read_result(out / SCORES).scores.protocol, trained)
        return
    recipe = load_recipe(arguments.recipe, [*arguments.set, f"seed={seed}"])
    train_set, val_set = (open_dataset("camvid", arguments.root, split) for split in splits)
    torch.manual_seed(seed)
    network = Peer(name, recipe, len(train_set.classes.names), pretrained=True).to(memory_format=torch.channels_last)
    optimize(network, recipe, train_set, val_set, out / CHECKPOINT, f"{name}, seed {seed}", trained)
    scores = score(network, val_set)
    protocol = {"dataset": "camvid", "network": name, "seed": seed, "recipe": f"smp/{name}", **trained}
    write_scores(out / SCORES, replace(scores, protocol=protocol))
    (out / CHECKPOINT).unlink(missing_ok=True)
    print(f"{name}, seed {seed}: mIoU {100 * scores.miou:.1f} %", flush=True)


def check_same(file: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse what was trained otherwise; keys that a file of an earlier version lacks cannot be compared."""
    for key, value in wanted.items():
        if found.get(key, value) != value:
            raise UserError(
                f"{file} is of {key} {found[key]!r}, not {value!r}: name another folder with --out, or give "
                "--drive, --recipe and --set as they were."
            )


def optimize(
    network: nn.Module,
    recipe: Recipe,
    train_set: Dataset,
    val_set: Dataset,
    file: Path,
    title: str,
    trained: dict[str, Any],
) -> None:
    """Train a network by a recipe, from its last checkpoint on; `trained` says what a checkpoint has to be of."""
    training = recipe.training
    balance, weights = class_statistics(recipe, train_set)
    criterion: Any = make_loss(training.loss, weights)
    inside = [name.startswith("network.encoder.") for name, _ in network.named_parameters()]
    groups = [
        {"params": [p for p, each in zip(network.parameters(), inside, strict=True) if each is of_encoder], "lr": rate}
        for of_encoder, rate in (
            (True, training.learning_rate * training.backbone_multiplier),
            (False, training.learning_rate * training.new_layers_multiplier),
        )
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=training.weight_decay, fused=True)
    schedule, first = Schedule(optimizer, training), 0
    if file.is_file():
        state = torch.load(file, weights_only=True)
        check_same(file, state.get("trained", {}), trained)
        for part, name in ((network, "network"), (optimizer, "optimizer"), (schedule, "schedule")):
            part.load_state_dict(state[name])
        first = state["iteration"]
    batches = SegmentationDataModule(recipe, train_set, val_set, first, balance=balance).train_dataloader()
    network.train()
    for iteration, batch in enumerate(batches, first):
        torch.manual_seed(recipe.seed * 1_000_003 + iteration)  # of dropout
        loss = criterion(network(batch.image), batch.labels) / criterion.weight(batch.labels).clamp(min=1e-6)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if (iteration + 1) % EVERY == 0:
            print(f"{title}: iteration {iteration + 1} of {training.iterations}, loss {loss.item():.3f}", flush=True)
            parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
            file.parent.mkdir(parents=True, exist_ok=True)
            state = {key: part.state_dict() for key, part in parts.items()}
            state |= {"iteration": iteration + 1, "trained": trained}
            with file.with_suffix(".part").open("wb") as stream:
                torch.save(state, stream)
            file.with_suffix(".part").replace(file)


@torch.inference_mode()
def score(network: nn.Module, dataset: Dataset) -> Scores:
    """Score a network on whole images."""
    network.eval()
    total = ScoreAccumulator(len(dataset.classes.names))
    for sample in (dataset[index] for index in range(len(dataset))):
        total.update(sample.labels.numpy(), labels_of(network, sample.image.as_subclass(Tensor)).numpy())
    return total.compute(dataset.classes.names)


@torch.inference_mode()
def labels_of(network: nn.Module, image: Tensor) -> Tensor:
    """The label map of an image, uint8 (3, H, W)."""
    labels: Tensor = most_probable(network(image[None])[0])
    return labels


def find_networks(folders: list[Path], drive: str, recipe: str) -> dict[str, dict[str, Any]]:
    """The networks that were scored on a drive, by name: recipe, and the scores and their files by seed.

    Raises:
        UserError: there are none, or two of one network and seed.
    """
    found: dict[str, dict[str, Any]] = {}
    for file in sorted({file for each in folders for file in each.rglob(SCORES)}):
        scores = read_result(file).scores
        if scores.protocol.get("split") != f"only_{drive}":
            continue
        peer = "network" in scores.protocol
        of = load_recipe(recipe) if peer else load_recorded(file.parents[1] / RECIPE)
        name = f"{scores.protocol['network']} (smp)" if peer else method_name(of.model)
        seed = scores.protocol["seed"] if peer else of.seed
        entry = found.setdefault(name, {"peer": peer, "recipe": of, "scores": [], "files": {}})
        if other := entry["files"].get(seed):
            raise UserError(f"{other} and {file} are both of {name} with seed {seed}: leave one of them out.")
        entry["files"][seed] = file
        entry["scores"].append(scores)
    if not found:
        raise UserError(
            f"no {SCORES} of drive {drive} in {', '.join(map(str, folders))}: name the folders of its runs."
        )
    return found


def check_out(out: Path) -> None:
    """Create the folder of the chart, and refuse one whose files another program wrote."""
    make_folder(out)
    if not (out / RECORD).is_file() and not (out / CHART).exists():
        return
    try:
        json.loads((out / RECORD).read_text(encoding="utf-8"))["networks"]
    except (OSError, ValueError, LookupError, TypeError):
        raise UserError(f"--out {out} holds a {RECORD} or {CHART} that is no table of peers: name another.") from None


def table(arguments: argparse.Namespace) -> None:
    """Print the networks by speed, and draw them."""
    if arguments.out:
        check_out(arguments.out)
    found = find_networks(arguments.runs, arguments.drive, arguments.recipe)
    calls, image = {}, torch.randint(0, 256, (3, *SIZE), dtype=torch.uint8)
    for name, entry in found.items():
        torch.manual_seed(0)
        network, call = timed(name, entry)
        entry["parameters"] = sum(p.numel() for p in network.parameters())
        calls[name] = partial(call, image)
    keep_pages()
    seconds = interleaved(calls, arguments.runs_timed)
    base = seconds[min(found, key=lambda name: timing(seconds[name]).median)]
    lines = [machine("segmentation_models_pytorch"), ""]
    lines += ["| network | mIoU | seeds | ms | of the fastest | parameters |", "|---|---:|---:|---:|---:|---:|"]
    rows = []
    for name in sorted(found, key=lambda name: timing(seconds[name]).median):
        scored = [100 * scores.miou for scores in found[name]["scores"]]
        deviation = stdev(scored) if len(scored) > 1 else None
        median = 1e3 * timing(seconds[name]).median
        rows.append({
            "network": name, "peer": found[name]["peer"], "miou": mean(scored), "deviation": deviation,
            "seeds": len(scored), "milliseconds": median, "parameters": found[name]["parameters"],
        })  # fmt: skip
        lines.append(
            f"| {name} | {mean(scored):.1f}"
            f"{'' if deviation is None else f' ± {deviation:.1f}'} | {len(scored)} "
            f"| {spread(timing([1e3 * s for s in seconds[name]]), 0)} | {spread(ratios(seconds[name], base), 2)} "
            f"| {found[name]['parameters'] / 1e6:.2f} M |"
        )
    print("\n".join(lines))
    if arguments.out:
        record = {"machine": lines[0], "drive": arguments.drive, "table": lines[2:], "networks": rows}
        atomic_write(arguments.out / RECORD, (json.dumps(record, indent=1) + "\n").encode())
        draw(rows, arguments.drive, arguments.out / CHART)


def timed(name: str, entry: dict[str, Any]) -> tuple[nn.Module, Callable[[Tensor], object]]:
    """A network, and the function from an image to its label map."""
    recipe, classes = entry["recipe"], dataset_classes("camvid")
    if entry["peer"]:
        peer = (
            Peer(name.removesuffix(" (smp)"), recipe, len(classes.names), pretrained=False)
            .eval()
            .to(memory_format=torch.channels_last)
        )
        return peer, partial(labels_of, peer)
    network = build_network(recipe.model.without_weights(), len(classes.names)).eval()
    device = torch.device("cpu")
    config = ModelConfig(recipe.model, classes.names, classes.palette, "camvid", name)
    predictor = Predictor(network, config, device, pick_precision("float32", device, network))
    return network, partial(predictor.predict, protocol=EvaluationRecipe(crop=None))


def draw(rows: list[dict[str, Any]], drive: str, file: Path) -> None:
    """mIoU over milliseconds, with bars of one standard deviation and the Pareto front."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    mpl.rcParams["svg.hashsalt"] = "gffnet"
    figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
    for peer, color, label in ((False, "#0b6e4f", "GFFNet and its ablation"), (True, "#b3541e", "peers (smp)")):
        of = [row for row in rows if row["peer"] == peer]
        x, y = [row["milliseconds"] for row in of], [row["miou"] for row in of]
        axes.errorbar(x, y, [row["deviation"] or 0 for row in of], fmt="o", color=color, label=label, capsize=3)
    slowest, highest = (max(row[key] for row in rows) for key in ("milliseconds", "miou"))
    fused = [row for row in rows if row["network"].startswith("PSPNet + ")]
    fused.sort(key=lambda row: row["milliseconds"])  # they lie close together: their names stand in a row above
    names = np.geomspace(fused[0]["milliseconds"], 1.2 * fused[-1]["milliseconds"], len(fused)) if fused else []
    for row, x in zip(fused, names, strict=True):
        name, line = row["network"].removeprefix("PSPNet + "), {"arrowstyle": "-", "color": "#999", "lw": 0.5}
        at, above = (row["milliseconds"], row["miou"]), (x, highest + 2)
        axes.annotate(name, at, above, rotation=45, fontsize=8, arrowprops={**line, "relpos": (0, 0)})
    for row in rows:
        if row not in fused:
            side = -1 if row["milliseconds"] > 0.8 * slowest else 1
            at = row["milliseconds"], row["miou"]
            align = {"ha": "left" if side == 1 else "right", "va": "center", "bbox": {"color": "white", "pad": 0.5}}
            axes.annotate(row["network"], at, (6 * side, 0), textcoords="offset points", fontsize=8, **align)
    front = [row for row in rows if not any(better(other, row) for other in rows)]
    front.sort(key=lambda row: row["milliseconds"])
    axes.step(
        *zip(*((row["milliseconds"], row["miou"]) for row in front), strict=True), "--", where="post", color="#888"
    )
    axes.set(xlabel="ms for one image of 360x480", ylabel=f"mIoU in %, drive {drive}, which training leaves out")
    axes.set_ylim(top=highest + 5)
    axes.set_xscale("log")  # the fastest differ by milliseconds
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2)  # beside no name
    figure.savefig(file, metadata={"Date": None})


def better(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether a network is faster and more accurate than another."""
    return one["milliseconds"] < other["milliseconds"] and one["miou"] > other["miou"]


def main() -> None:
    """Train, or print and draw what was trained."""
    parser = make_parser(__doc__)
    commands = parser.add_subparsers(required=True, metavar="train|table", parser_class=Parser)
    training = commands.add_parser("train")
    training.add_argument("--root", type=folder, required=True)
    training.add_argument("--out", type=path, required=True)
    training.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    add_count(training, "--seeds", [0, 1, 2], least=0)
    training.add_argument("--set", nargs="+", default=["training.iterations=500"], metavar="KEY=VALUE")
    shown = commands.add_parser("table")
    shown.add_argument("runs", type=folder, nargs="+")
    add_count(shown, "--runs-timed", 15)
    shown.add_argument("--out", type=path, metavar="FOLDER")
    for command, call in ((training, run_all), (shown, table)):
        command.set_defaults(run=call)
        command.add_argument("--drive", default="0006R0")
        command.add_argument("--recipe", default="camvid/gffnet_lite0")
    arguments = parser.parse_args()
    arguments.run(arguments)


def run_all(arguments: argparse.Namespace) -> None:
    """Train and score what is left, seed after seed."""
    make_folder(arguments.out)
    keep_pages()  # as `gffnet train` does
    for seed in arguments.seeds:
        for name in arguments.networks:
            train(name, seed, arguments)


if __name__ == "__main__":
    run(main)
