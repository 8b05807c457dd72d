"""MeTHanol: accuracy on ToMi; speed of the dual-head step and of two-pass replies."""
