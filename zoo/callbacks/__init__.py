"""Callbacks of every run: samples and figures in TensorBoard, throughput and memory."""

from zoo.callbacks.figures import Figures
from zoo.callbacks.samples import Samples
from zoo.callbacks.throughput import Throughput

__all__ = ["Figures", "Samples", "Throughput"]
