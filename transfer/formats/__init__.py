"""The shapes of preference data that others write, each read into neutral records. Does not know files."""
