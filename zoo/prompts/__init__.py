"""Wording: changing it touches no tensor code."""
