"""The gate explorer: a page on this machine to move gates on and see what the network then sees."""
