"""Context modules: `X_4` → `y_0`. Each is built from the width of `X_4` and names the `width` of its result."""
