"""The commands of `bench`, each a function that prints and returns the exit status."""
