"""Logs, an interrupted run that is resumed, and its best checkpoint."""

import json

from shapes import Shapes

import gffnet

data = {"train_data": Shapes(8), "val_data": Shapes(2, seed=1), "classes": 3, "out": "resumed"}
run = gffnet.train("tiny.yaml", **data, overrides=["training.iterations=4"])
run = gffnet.train("tiny.yaml", **data, overrides=["training.iterations=4"], resume=True, extend=4)
history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
print(f"{len(history)} lines of history, the last {sorted(history[-1])}")
print(gffnet.load(run / "best").predict(Shapes(1)[0][0]).shape)
