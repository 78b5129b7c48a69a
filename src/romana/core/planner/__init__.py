"""The planner: what an address plan holds under a load, before anything is built."""
