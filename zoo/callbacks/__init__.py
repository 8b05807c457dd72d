"""Every run: samples, figures, hyperparameters, speed in TensorBoard; monitored names checked."""

from zoo.callbacks.figures import Figures
from zoo.callbacks.monitored_names import MonitoredNames
from zoo.callbacks.samples import Samples
from zoo.callbacks.tensorboard import Hyperparameters, RunLogger
from zoo.callbacks.throughput import Throughput

__all__ = ["Figures", "Hyperparameters", "MonitoredNames", "RunLogger", "Samples", "Throughput"]
