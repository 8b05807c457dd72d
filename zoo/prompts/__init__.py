"""Prompts that papers share: encoders, chat formats, thoughts, options, what is cut when too long."""
