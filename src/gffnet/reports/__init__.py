"""Reports: comparisons, the tables of the paper, the page about a run, model cards, costs."""
