"""Golden trajectories, which keep records valid while the code changes: the runs, and the committed numbers."""
