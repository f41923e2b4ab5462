"""Predictions from PIL, arrays, tensors and batches: labels, probabilities, logits, gates, overlay, areas."""

import numpy as np
import PIL.Image
import torch

import gffnet

array = np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)
image, tensor = PIL.Image.fromarray(array), torch.from_numpy(array).permute(2, 0, 1)
predictor = gffnet.load(precision="float32")  # the model that ships; or a run folder
labels = predictor.predict(image)
print(
    all(np.array_equal(labels, predictor.predict(x)) for x in (array, tensor)),
    predictor.predict([image, array])[1].shape,
)
print(predictor.predict(np.stack([array, array])).shape, predictor.predict(array, scales=(0.75, 1.0), flip=True).shape)
print(tuple(predictor.probabilities(array).shape), tuple(predictor.logits(array).shape))
print([tuple(gate.shape) for gate in predictor.encode(array).gates])
areas = predictor.areas(labels=labels)
print(predictor.overlay(image).size, {name: round(share, 2) for name, share in areas.items() if share})
