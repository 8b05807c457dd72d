"""LaMsS: skepticism tokens (arXiv 2409.06601), and the baselines that it is compared with."""

from zoo.methods.lamss.baselines import ConfidentSFT
from zoo.methods.lamss.module import LaMsS

__all__ = ["ConfidentSFT", "LaMsS"]
