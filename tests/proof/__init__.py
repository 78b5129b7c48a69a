"""Proof by testing: documents, what they mean, the compiled program, the kernel and an outside engine, side by side.

`docs/design/policy.md` says which is compared with which, and where.
"""
