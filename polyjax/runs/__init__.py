"""A sweep from beginning to end: its stages, where their outcomes are kept, and whether a file can be trusted."""
