"""Real namespaces and real connections between them, for tests that ask the kernel."""
