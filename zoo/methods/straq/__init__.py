"""straQ*: Q-learning plans support strategies (arXiv 2505.06987)."""

from zoo.methods.straq.module import StraQ
from zoo.methods.straq.responder import StraQResponder

__all__ = ["StraQ", "StraQResponder"]
