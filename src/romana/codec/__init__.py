"""Translations between the model and every text or wire format."""
