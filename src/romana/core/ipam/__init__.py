"""Spans, blocks and addresses: who gets which."""
