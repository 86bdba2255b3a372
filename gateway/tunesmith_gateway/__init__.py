"""Tunesmith's public door: keys, dialects, sessions and routing."""
