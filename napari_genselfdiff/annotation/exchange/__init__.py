"""Annotations in and out: one format a file."""
