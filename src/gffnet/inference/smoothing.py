"""Smoothing along time: class probabilities of a video, averaged along the motion of the picture.

    p_t(x) = q_t(x) + w_t(x) (p_{t-1}(x + u_t(x)) - q_t(x)),    w_t(x) = exp(-Δ / τ) exp(-(d_t(x) / 20)²),    p_0 = q_0

- `q_t`: class probabilities of frame t by the network; `w_t`: the weight of the past.
- Δ: seconds since frame t - 1; τ: time constant. So an average reaches as far back at any frame rate.
- `u_t`: optical flow, by which frame t - 1 shows at `x + u_t` what frame t shows at x (DIS; Kroeger et al., ECCV 2016).
- `d_t`: absolute difference in grey levels of frame t and of frame t - 1 moved by `u_t`, mean of 5x5 pixels.

`w_t` is 0 where the flow leads out of the image, and falls where the moved frame does not fit: what comes from behind
an object or follows a cut has no past. Without them, labels lag behind things that move: on a drive at 15 frames a
second with τ = 0.2, mIoU falls from 72.6 to 64.8 %, and with them it rises to 73.1 (benchmarks/README.md).
"""

import math
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from gffnet.errors import UserError
from gffnet.inference.predictor import Predictor
from gffnet.inference.sliding_window import most_probable

_MISFIT = 20.0
"""Difference of grey levels at which the weight of the past falls to 1/e."""
_CUT = 0.4
"""Mean fit of two frames below which the film was cut between them (benchmarks/video.py)."""
_SMALLEST = 64
"""Sides that images are padded to for the optical flow, which OpenCV does not compute for some smaller ones."""


def check_seconds(seconds: float) -> None:
    """Raise `UserError` for a time constant that is not above 0."""
    if not 0 < seconds < math.inf:
        raise UserError(f"smooth {seconds!r} must be a number of seconds above 0, such as 0.2.")


class Smoothing:
    """Label maps of consecutive frames, from class probabilities that are averaged along time.

    It begins anew where the film is cut, where the size of the frames changes, and where time stands still or runs
    backwards.
    """

    def __init__(self, predictor: Predictor, seconds: float) -> None:
        """Begin with no frame; `seconds`: the time constant τ.

        Raises:
            UserError: it is not above 0.
        """
        check_seconds(seconds)
        self._predictor, self._seconds = predictor, seconds
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._average: Tensor | None = None
        self._grey: NDArray[Any] = np.empty((0, 0), np.uint8)
        self._time = 0.0

    def predict(self, image: UInt8[np.ndarray, "h w 3"], time: float) -> UInt8[np.ndarray, "h w"]:
        """Return the label map of the next frame, RGB, at a time in seconds.

        Raises:
            UserError: as `Predictor.predict`; or the probabilities of two frames do not fit into the limit on memory.
        """
        height, width = image.shape[:2]
        # the average, the frame's own, and the average moved; the flow, its grid and the weight
        held = (3 * 4 * len(self._predictor.config.classes) + 64) * height * width
        window = self._predictor.window(size=(height, width), held=held)
        probabilities = window.probabilities(self._predictor.tensor(self._predictor.frame(image)))
        labels: NDArray[np.uint8] = most_probable(self.update(image, probabilities, time)).cpu().numpy()
        return labels

    @torch.inference_mode()
    def update(
        self, image: UInt8[np.ndarray, "h w 3"], probabilities: Float[Tensor, "k h w"], time: float
    ) -> Float[Tensor, "k h w"]:
        """Return the average after a frame with these probabilities at a time in seconds. They are not changed."""
        grey, before = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), self._grey
        elapsed = time - self._time
        average = probabilities
        if self._average is not None and grey.shape == before.shape and elapsed > 0:
            flow = self._motion(grey, before)
            fit = _fit(grey, before, flow)
            if fit.mean() >= _CUT:
                weight = torch.from_numpy(math.exp(-elapsed / self._seconds) * fit).to(probabilities)
                average = _moved(self._average, flow).sub_(probabilities).mul_(weight).add_(probabilities)
        self._average, self._grey, self._time = average, grey, time
        return average

    def _motion(self, grey: NDArray[Any], before: NDArray[Any]) -> Float[np.ndarray, "h w 2"]:
        """Return, for every pixel, where it was in the image before: columns and rows, relative."""
        height, width = grey.shape
        below, right = max(0, _SMALLEST - height), max(0, _SMALLEST - width)
        if below or right:
            grey, before = (np.pad(each, ((0, below), (0, right)), mode="edge") for each in (grey, before))
        flow: NDArray[np.float32] = self._flow.calc(grey, before, None)[:height, :width]  # type: ignore[call-overload]
        return flow


def _fit(
    grey: UInt8[np.ndarray, "h w"], before: UInt8[np.ndarray, "h w"], flow: Float[np.ndarray, "h w 2"]
) -> Float[np.ndarray, "h w"]:
    """Return how well the image before, moved, fits: from 1, equal, down to 0; 0 where it is moved from outside."""
    height, width = grey.shape
    columns = flow[..., 0] + np.arange(width, dtype=np.float32)
    rows = flow[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    moved = cv2.remap(before, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    difference = cv2.blur(cv2.absdiff(grey, moved).astype(np.float32), (5, 5))
    inside = (columns >= 0) & (columns <= width - 1) & (rows >= 0) & (rows <= height - 1)
    fit: NDArray[np.float32] = inside * np.exp(-((difference / _MISFIT) ** 2))
    return fit


def _moved(x: Float[Tensor, "k h w"], flow: Float[np.ndarray, "h w 2"]) -> Float[Tensor, "k h w"]:
    """Return the maps moved by the flow, bilinearly."""
    height, width = flow.shape[:2]
    places = np.stack(
        [
            (2 * (flow[..., 0] + np.arange(width)) + 1) / width - 1,
            (2 * (flow[..., 1] + np.arange(height)[:, None]) + 1) / height - 1,
        ],
        axis=-1,
    ).astype(np.float32)
    grid = torch.from_numpy(places).to(x)
    return F.grid_sample(x[None], grid[None], padding_mode="border", align_corners=False)[0]
