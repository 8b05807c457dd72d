"""Architectural parts: modules and install functions, without Lightning."""
