"""The paper's tables with ours beside them."""
