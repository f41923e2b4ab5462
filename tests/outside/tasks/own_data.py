"""Training and evaluation on a torch data set of one's own."""

from shapes import Shapes

import gffnet

run = gffnet.train(
    "tiny.yaml", train_data=Shapes(16), val_data=Shapes(4, seed=1), classes=["noise", "bright", "dark"], out="own_data"
)
result = gffnet.evaluate(run, Shapes(4, seed=2), classes=["noise", "bright", "dark"])
print(f"mIoU {result.scores.miou:.3f}, {sorted(path.name for path in run.iterdir())}")
