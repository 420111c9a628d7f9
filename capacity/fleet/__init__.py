"""One batch by many launchers: processes of this machine, or workers on any number of machines."""
