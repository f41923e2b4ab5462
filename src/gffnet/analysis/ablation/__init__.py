"""A data set scored with gates closed, and what that says about each gate."""
