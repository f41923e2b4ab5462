"""Prediction with a trained model.

`predictor` (image → labels), `sliding_window`, `tiling` (within a memory limit), `batch` (files and folders), `video`,
`smoothing` (a video's probabilities along time), `stream` (object stores), `cluster` (Ray), `exported` (ONNX and pt2
files), `precision` (device and dtype).
"""
