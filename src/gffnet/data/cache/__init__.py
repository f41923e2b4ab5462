"""Decoded samples on disk: memory-mapped, or in compressed tiles of which only those in view are decoded."""
