"""Tasks, the annotation store and its journal."""
