"""romana: the command line for people."""
