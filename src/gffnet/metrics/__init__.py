"""Scores of label maps against labels: one matrix for a whole data set."""
