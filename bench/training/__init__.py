"""Networks under rules, and the one training loop."""
