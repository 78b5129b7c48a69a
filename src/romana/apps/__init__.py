"""The programs: read configuration, wire the parts, run."""
