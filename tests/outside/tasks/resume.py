"""Logs, an interrupted run that is resumed, and its best checkpoint."""

import json
import signal

from shapes import Shapes

import gffnet


class Interrupted(gffnet.SegmentationTask):
    """Gets the signal of a scheduler once, in iteration 5."""

    signal = signal.SIGTERM

    def losses(self, images, labels):
        if self.global_step == 5 and Interrupted.signal:
            Interrupted.signal = signal.raise_signal(Interrupted.signal)  # None
        return super().losses(images, labels)


data = {"train_data": Shapes(16), "val_data": Shapes(2, seed=1), "classes": 3, "out": "resumed"}
try:
    gffnet.train("tiny.yaml", **data, task=Interrupted)
except gffnet.RunFailed as error:
    print(error)
run = gffnet.train("tiny.yaml", **data, task=Interrupted, resume=True)
history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
print(max(entry["iteration"] for entry in history), "iterations")
print(gffnet.load(run / "best").predict(Shapes(1)[0][0]).shape)
