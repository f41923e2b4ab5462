"""Training: the paper's losses and schedule, with Lightning as the engine. The only package that imports it."""
