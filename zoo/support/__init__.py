"""The emotional-support family: labels, decisions, prompts, replies, scores, simulated seekers."""
