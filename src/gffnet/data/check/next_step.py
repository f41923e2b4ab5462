"""What to do with data of one's own that are sound: the command to train on them, and what rare classes call for."""

import shlex

from gffnet.data.check.report import Report

RECIPE = "folder/gffnet_r18"
BALANCE = "training.class_balance=0.5"
SCARCITY = 10
"""A class is rare that has so many times fewer pixels than an even share."""


def next_step(report: Report) -> list[str]:
    """Lines to follow a report; none if it has errors, is of a released data set, or of one split only."""
    if not report.ok or report.dataset != "folder" or not {"train", "val"} <= report.splits.keys():
        return []
    command = ["gffnet", "train", RECIPE, "--root", str(report.root)]
    rare = rare_classes(report)
    if not rare:
        return [f"train on it: {shlex.join(command)}"]
    shares = ", ".join(f"{name} {100 * share:.2g} %" for name, share in rare.items())
    return [
        f"rare: {shares} of the labelled pixels; {BALANCE} has half of the crops show a class that is drawn evenly",
        f"train on it: {shlex.join([*command, '--set', BALANCE])}",
    ]


def rare_classes(report: Report) -> dict[str, float]:
    """The rare classes of the training split, with their share of the labelled pixels; not those that never occur."""
    train = report.splits["train"]
    shares = {name: train.share(label) for label, name in enumerate(train.names)}
    return {name: share for name, share in shares.items() if 0 < share < 1 / (SCARCITY * len(shares))}
