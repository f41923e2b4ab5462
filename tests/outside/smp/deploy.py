import numpy as np
import onnxruntime
import segmentation_models_pytorch as smp
import torch

torch.manual_seed(0)
smp.FPN("resnet18", encoder_weights=None, classes=3).save_pretrained("saved")
net = smp.from_pretrained("saved").eval()
image = torch.rand(1, 3, 64, 96)
axes = {"images": {0: "n", 2: "h", 3: "w"}}
torch.onnx.export(net, (image,), "net.onnx", input_names=["images"], dynamic_axes=axes, dynamo=False)
session = onnxruntime.InferenceSession("net.onnx")
(logits,) = session.run(None, {"images": image.numpy()})
with torch.inference_mode():
    print(np.abs(logits - net(image).numpy()).max() < 1e-3)
