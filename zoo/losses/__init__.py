"""Losses: pure functions, checkable by hand."""
