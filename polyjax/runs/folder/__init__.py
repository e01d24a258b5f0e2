"""A run in progress on disk, which survives interruptions."""
