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
    container: str | None = None,
) -> Path:
    """Write pictures as a video; `times` in ticks of 1/1000 s, instead of a rate; `index_first`: as for the web.

    `container`: FFmpeg's name of its format, where it does not know the suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "faststart"} if index_first else {}
    with av.open(str(path), "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        tick = Fraction(1, 1000) if times else 1 / rate
        stream.codec_context.time_base = tick
        noise = file.add_stream("aac", rate=8000) if sound else None
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = times[i] if times else i, tick
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if noise:
            for i in range(20):
                heard = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                heard.sample_rate, heard.pts = 8000, 1024 * i
                file.mux(noise.encode(heard))
            file.mux(noise.encode(None))
    return path
