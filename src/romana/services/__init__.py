"""The verbs: they order the work of core and of the ports, and touch the world only through ports."""
