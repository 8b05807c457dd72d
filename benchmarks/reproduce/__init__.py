"""Claims of the papers, the trials that decide them, and what came out."""
