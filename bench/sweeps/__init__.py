"""Which runs exist, and how they are trained."""
