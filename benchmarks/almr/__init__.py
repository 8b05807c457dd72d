"""ALMR's claims on a small real study."""
