"""Supervised fine-tuning, the control of several papers."""

from zoo.methods.sft.module import SFT

__all__ = ["SFT"]
