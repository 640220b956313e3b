"""The commands of ``genselfdiff``, one file for each kind of work; each is thin."""
