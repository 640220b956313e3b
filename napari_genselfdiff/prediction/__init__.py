"""From slide pixels to label maps."""
