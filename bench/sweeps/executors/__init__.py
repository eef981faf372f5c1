"""How missing runs get done, one engine per file: its `run_all` trains them and tells of each as it is recorded."""
