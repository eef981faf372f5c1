"""Results: records, the checks on them, and what keeps them valid."""
