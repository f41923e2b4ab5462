"""Prediction with a trained model.

`predictor` (image → labels), `sliding_window`, `tiling` (within a memory limit), `batch` (files and folders), `video`,
`model_io` (model folders, checkpoints, hub), `pretrained` (the network as an `nn.Module`), `exported` (ONNX and pt2
files), `precision` (device and dtype).
"""
