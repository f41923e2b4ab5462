"""Fusions of a feature pyramid, Eq. (2) to (5). One contract: L widths, finest first → L maps of 256 channels."""
