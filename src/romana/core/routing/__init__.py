"""The route plan of every device."""
