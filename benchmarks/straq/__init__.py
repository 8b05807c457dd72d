"""straQ*: speed of scoring the strategies (its replies: benchmarks.support)."""
