"""Baselines of emotional support conversation: 14 recipes."""

from zoo.methods.esc_baselines.module import ESCBaseline

__all__ = ["ESCBaseline"]
