"""What every run writes to TensorBoard: samples, figures, hyperparameters, speed and memory."""

from zoo.callbacks.figures import Figures
from zoo.callbacks.samples import Samples
from zoo.callbacks.tensorboard import Hyperparameters, RunLogger
from zoo.callbacks.throughput import Throughput

__all__ = ["Figures", "Hyperparameters", "RunLogger", "Samples", "Throughput"]
