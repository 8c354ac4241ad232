"""The command line: the one place that reads the environment and sets up the process."""
