"""What a cluster does at one parallelism after another: points, measured one at a time."""
