"""What happened: the process, the record of a run, and the whole way from guard to record."""
