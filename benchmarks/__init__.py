"""Claims about speed and memory, each measured against a peer: `python -m benchmarks list`."""
