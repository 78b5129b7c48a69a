"""Fakes of ports: real classes that pass the same contract suites as the adapters."""
