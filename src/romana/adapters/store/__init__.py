"""Stores: the same records and transactions in memory, in SQLite, later in etcd."""
