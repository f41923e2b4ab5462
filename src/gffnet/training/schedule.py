"""The poly schedule of the learning rate."""


def poly(iteration: int, iterations: int, power: float) -> float:
    """The factor on the learning rate, `(1 - iteration / iterations) ** power`; 0 from the last iteration on."""
    return float(max(0.0, 1 - iteration / iterations) ** power)
