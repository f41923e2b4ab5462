"""What a run that predicts says of how it does so: once, and not before there is something to predict."""

import logging

from gffnet.inference.predictor import Predictor

log = logging.getLogger("gffnet")


class Announcement:
    """Says number format and device before the first image, and the scale before the first that is seen smaller.

    A command that is refused says one line, why: so nothing is said before the first image.
    """

    def __init__(self, predictor: Predictor, remedy: str = "") -> None:
        """`remedy`: what the command offers to whoever would not have images seen smaller."""
        self._predictor = predictor
        self._remedy = f": {remedy}" if remedy else ""
        self._begun = False
        self._smaller = False

    def before(self, size: tuple[int, int], scale: float | None = None) -> None:
        """Say what is to be said before an image of a height and width; `scale`: that was asked for, if any was."""
        if not self._begun:
            log.info(self._predictor.precision.told(self._predictor.device))
            self._begun = True
        own, learned_from = self._predictor.scale(size), self._predictor.config.learned_from
        if scale is None and own < 1 and not self._smaller:
            assert learned_from is not None  # or nothing is seen smaller
            height, width = learned_from
            log.info(
                "large images are seen smaller (%dx%d at %g), for the model learned from %dx%d%s",
                *size[::-1],
                own,
                width,
                height,
                self._remedy,
            )
            self._smaller = True
