"""What touches the world: stores, the kernel, daemons, HTTP."""
