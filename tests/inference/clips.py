"""Small videos."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def save_clip(
    path: Path,
    pictures: Sequence[NDArray[np.uint8]],
    rate: Fraction = Fraction(25),
    times: Sequence[int] | None = None,
    codec: str = "mpeg4",
    sound: bool = False,
    index_first: bool = False,
) -> Path:
    """Write pictures as a video; `times` in ticks of 1/1000 s, instead of a rate; `index_first`: as for the web."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"} if index_first else {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        tick = Fraction(1, 1000) if times else 1 / rate
        stream.codec_context.time_base = tick
        noise = container.add_stream("aac", rate=8000) if sound else None
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = times[i] if times else i, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if noise:
            for i in range(20):
                heard = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                heard.sample_rate, heard.pts = 8000, 1024 * i
                container.mux(noise.encode(heard))
            container.mux(noise.encode(None))
    return path
