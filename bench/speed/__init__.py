"""``relaxbench speed``: every row beside its peers and its own matrix products, timed in one process."""
