"""Stage 4: the network in torch, its sizes, its names and its folder on disk."""
