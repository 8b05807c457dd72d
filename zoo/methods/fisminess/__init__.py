"""FiSMiness: a state machine for emotional support (arXiv 2504.11837)."""

from zoo.methods.fisminess.module import FiSMiness

__all__ = ["FiSMiness"]
