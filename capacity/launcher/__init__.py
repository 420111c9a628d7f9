"""The executable scheduler: which starts, over which wire, how many in flight, what became of each."""
