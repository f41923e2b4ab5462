"""What a run that predicts says of how it does so: once, and not before there is something to predict."""

import logging

from gffnet.inference.fitting_scale import fitting_scale
from gffnet.inference.predictor import Predictor

log = logging.getLogger("gffnet")


class Announcement:
    """Says number format and device before the first image, and the scale before the first that is seen smaller.

    A command that is refused says one line, why: so nothing is said before the first image.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._begun = False
        self._smaller = False

    def before(self, size: tuple[int, int]) -> None:
        """Say what is to be said before an image of a height and width."""
        if not self._begun:
            log.info(self._predictor.precision.told(self._predictor.device))
            self._begun = True
        config = self._predictor.config
        scale = fitting_scale(config.evaluation, config.learned_from, size)
        if scale < 1 and not self._smaller:
            assert config.learned_from is not None  # or nothing is seen smaller
            height, width = config.learned_from
            log.info(
                "large images are seen smaller (%dx%d at %g), for the model learned from %dx%d: --scales 1 has them "
                "seen as they are, --crop in windows",
                *size[::-1],
                scale,
                width,
                height,
            )
            self._smaller = True
