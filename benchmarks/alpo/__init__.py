"""ALPO: speed of a preference step on a tree."""
