"""ALPO: translations of TVsub after several objectives; speed of a preference step on a tree."""
