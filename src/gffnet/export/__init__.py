"""Export: a trained network as one file that needs none of this package's code."""
