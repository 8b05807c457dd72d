"""SoVA's claim."""
