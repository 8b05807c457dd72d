"""M3-JEPA: a mixture-of-experts predictor between encoders (arXiv 2409.05929)."""

from zoo.methods.m3_jepa.module import M3JEPA

__all__ = ["M3JEPA"]
