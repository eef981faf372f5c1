"""Trains missing runs, one executor per file: its `run_all` trains them and reports each when it is recorded."""
