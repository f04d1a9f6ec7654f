"""The programs that are compared. Run by their paths, not imported."""
