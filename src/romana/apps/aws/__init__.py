"""romana-aws: writes the plan's routes into VPC route tables."""
