"""Where long work runs: worker processes and their jobs."""
