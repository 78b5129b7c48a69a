"""Records in sqlite."""
