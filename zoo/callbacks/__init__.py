"""Callbacks of every run: generated samples in TensorBoard, throughput and memory."""

from zoo.callbacks.samples import Samples
from zoo.callbacks.throughput import Throughput

__all__ = ["Samples", "Throughput"]
