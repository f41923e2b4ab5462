"""Exact algebra: the paper's functions in forms that cost less. Each equals its plain form up to rounding."""
