"""romana-agent: makes one host match the plan."""
