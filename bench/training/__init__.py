"""Networks under rules, and the training loop."""
