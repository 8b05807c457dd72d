"""Decoding with few passes: at several depths, from shared prefixes, among given choices."""
