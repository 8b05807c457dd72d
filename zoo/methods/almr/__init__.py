"""ALMR: continual pre-training with the ratio of the added language that a study finds."""
