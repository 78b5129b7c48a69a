"""The command line's nouns: each asks romanad over HTTP and shows the answer."""
