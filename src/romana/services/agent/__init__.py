"""The agent of a host: endpoints come and go, and the kernel is as the plan says."""
