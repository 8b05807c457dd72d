"""Prompts that papers share: chat formats, thoughts, options, and what is cut when too long."""
