"""SoVA."""
