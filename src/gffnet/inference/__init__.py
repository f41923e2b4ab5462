"""From an image to a label map: precision, sliding window, scales, and every kind of MODEL."""
