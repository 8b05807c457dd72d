"""The command line: verbs, trainer, one-line errors, listings, chat."""
