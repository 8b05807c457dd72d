"""The retrieval family: evaluation, scores, pairs of documents and queries, indexes."""
