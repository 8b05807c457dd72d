"""straQ*: speed of scoring the strategies, quality of planners (replies: benchmarks.support)."""
