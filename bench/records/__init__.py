"""What a result is: records, what is checked of them, and what keeps them valid."""
