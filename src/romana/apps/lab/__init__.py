"""romana lab: a data centre in network namespaces on one machine."""
