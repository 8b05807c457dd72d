"""Emotional support: straQ*, FiSMiness, CoCT and baselines on the same decisions."""
