"""The schedule of the learning rate: poly, after a linear rise where the recipe has one."""


def learning_rate_factor(iteration: int, iterations: int, power: float, warm_up: int = 0) -> float:
    """The factor on the learning rate: that of `poly`, times `(iteration + 1) / warm_up` in the first `warm_up`.

    So the rise meets the schedule where it ends, and no iteration is lost at a rate of 0 (Goyal et al., 2017,
    sec. 2.2).
    """
    rise = min(1.0, (iteration + 1) / warm_up) if warm_up else 1.0
    return rise * poly(iteration, iterations, power)


def poly(iteration: int, iterations: int, power: float) -> float:
    """The factor on the learning rate, `(1 - iteration / iterations) ** power`; 0 from the last iteration on."""
    return float(max(0.0, 1 - iteration / iterations) ** power)
