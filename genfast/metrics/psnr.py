"""The peak signal-to-noise ratio."""

import math


def psnr(error: float) -> float:
    """The peak signal-to-noise ratio in dB of a mean squared error in levels of 255; of equal pictures, 108 dB."""
    return 10 * math.log10(255**2 / max(error, 1e-6))
