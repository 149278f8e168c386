"""How far the accuracy of a test may be from that on all pictures of the same kind."""

from __future__ import annotations

import math

Z = 1.959964  # of the normal distribution, for 95 %


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share; of no examples, 0 to 1.

    Source: Wilson, Journal of the American Statistical Association 22, 1927.

    Args:
      right: how many examples are right.
      count: how many there are.
    """
    if not count:
        return 0.0, 1.0
    share = right / count
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def shown(right: int, count: int) -> str:
    """Return the interval in words, as all tools and pages show it."""
    low, high = wilson(right, count)
    return f"95 % interval {low:.3f} to {high:.3f}"
