"""FiSMiness: speed of its three calls (its replies: benchmarks.support)."""
