"""Judges: who compares and grades support replies, and who plays the seeker."""
