"""Records in etcd 3.4 or later: the store of several romanads at once.

grpcio is imported by this package alone, and this package by romanad and `romana restore` alone, when they are told to
use etcd.
"""
