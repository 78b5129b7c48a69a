"""Policy: selectors to classes, rows and profiles; and why a verdict is what it is."""
