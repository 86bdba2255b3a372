"""What two or more Tunesmith services exchange. Services import this package, never each other."""

__version__ = "0.1.0"
