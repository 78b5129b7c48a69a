"""romanad: the control plane."""
