"""Lazy reading of whole-slide images."""
