"""Golden trajectories, which keep records valid while the code changes: what is run, and the committed numbers."""
