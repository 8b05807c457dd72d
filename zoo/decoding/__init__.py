"""Decoding: depth-limited with catch-up, thought then answer."""
