"""Logs, an interrupted run that is resumed, and its best checkpoint."""

import json
import signal

from shapes import Shapes

import gffnet


class Interrupting(Shapes):
    """What a scheduler does once, while the 20th sample is read."""

    reads = 0

    def __getitem__(self, index):
        self.reads += 1
        if self.reads == 20:
            signal.raise_signal(signal.SIGTERM)
        return super().__getitem__(index)


data = {"train_data": Interrupting(16), "val_data": Shapes(2, seed=1), "classes": 3, "out": "resumed"}
try:
    gffnet.train("tiny.yaml", **data)
except gffnet.RunFailed as error:
    print(error)
run = gffnet.train("tiny.yaml", **data, resume=True)
history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
print(max(entry["iteration"] for entry in history), "iterations")
print(gffnet.load(run / "best").predict(Shapes(1)[0][0]).shape)
