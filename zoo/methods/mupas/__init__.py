"""MuPaS: one model speaks for all people of a scene, and says who is next."""

from zoo.methods.mupas.module import MuPaS

__all__ = ["MuPaS"]
