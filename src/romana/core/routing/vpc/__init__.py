"""The route tables of VPCs, from the one plan: which routes, through whom, and what to change."""
