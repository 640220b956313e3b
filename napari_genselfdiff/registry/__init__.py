"""Model folders, cards and versions."""
