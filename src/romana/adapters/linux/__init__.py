"""All code that needs root: links, routes, nftables, connection tracking, namespaces."""
