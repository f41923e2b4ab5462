"""Gates as values: edit them, measure them, close them over a data set, draw them (Figures 6 and 7)."""
