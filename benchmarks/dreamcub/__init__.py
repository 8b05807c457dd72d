"""DreamCUB's trials."""
