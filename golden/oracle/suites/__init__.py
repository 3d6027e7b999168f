"""One module per suite; each gives its vector files from `suites()`."""
