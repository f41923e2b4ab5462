"""Data set x predictor → scores, with the protocol they were measured with."""
