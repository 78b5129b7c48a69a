"""The tree of prefix groups: carving, and which group a host joins."""
