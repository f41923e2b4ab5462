"""Results of several models side by side, with what the last refines."""
