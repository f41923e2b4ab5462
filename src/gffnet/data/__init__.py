"""Data sets read from their native releases, the paper's training augmentation, and the stream of training samples."""
