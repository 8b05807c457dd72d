"""DreamCUB-style: a dialogue world model with user beliefs, and reinforcement learning in it."""

from zoo.methods.dreamcub.module import DreamCUB

__all__ = ["DreamCUB"]
