"""SoVA: speed of its choices, of retrieval by scored reports, and of the index."""
