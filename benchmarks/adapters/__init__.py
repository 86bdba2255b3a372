"""Changing between adapters on one base."""
