"""Training by several processes: who they are, what they say to each other, and the loop of each."""
