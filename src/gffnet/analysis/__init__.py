"""Looking at what a network costs, what its gates do, and how a run went."""
