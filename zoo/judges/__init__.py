"""Judges: who answers questions in words and weighs candidates; answers kept on file."""
