"""ALPO: subtitle translation by preferences of segments."""

from zoo.methods.alpo.module import ALPO

__all__ = ["ALPO"]
