"""Gates as values: maps to look at, statistics, and what closing gates changes in an image or in the scores."""
