"""How fast engines run a model on this machine's CPU: ours and the stock ones, each in a process of its own."""
