"""The gate explorer: a local web page to edit gates and see how the prediction changes."""
