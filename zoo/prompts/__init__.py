"""Prompts that papers share: the base encoder, chat formats, thoughts, options, truncation."""
