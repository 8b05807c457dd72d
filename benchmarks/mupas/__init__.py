"""MuPaS: speed of its loss, and trials on MELD and EmoryNLP."""
