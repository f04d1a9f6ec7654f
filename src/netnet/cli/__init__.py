"""The command line: from arguments to calls, without logic of its own."""
