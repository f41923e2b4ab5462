"""Scores of label maps against labels, from counts that add up over the images of a data set."""
