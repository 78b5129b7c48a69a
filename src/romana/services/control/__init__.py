"""The control plane's verbs: each decides with core over the state, and commits by compare-and-swap."""
