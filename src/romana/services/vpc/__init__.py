"""The verbs of the program that writes VPC route tables."""
