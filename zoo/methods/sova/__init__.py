"""SoVA: value instructions from a graph of principles steer decisions."""

from zoo.methods.sova.module import SoVA

__all__ = ["SoVA"]
