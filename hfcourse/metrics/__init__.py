"""Offline `evaluate` modules."""
