"""A network saved, loaded, exported, and run without gffnet."""

import subprocess

import numpy as np
import onnxruntime
import torch

import gffnet

torch.manual_seed(0)
gffnet.GFFNet("resnet18", num_classes=3, channels=32).save_pretrained("saved")
net = gffnet.GFFNet.from_pretrained("saved")
subprocess.run(["gffnet", "export", "--model", "saved", "--to", "onnx", "--out", "net.onnx"], check=True)
image = np.random.default_rng(0).integers(0, 256, (1, 3, 80, 112), dtype=np.uint8)
session = onnxruntime.InferenceSession("net.onnx")
(name,) = (each.name for each in session.get_inputs())
outputs = session.run(None, {name: image})
with torch.inference_mode():
    labels = net(torch.from_numpy(image)).logits.argmax(1).numpy()
print(f"{(outputs[0] == labels).mean():.4f} of the labels agree")
