"""Files of any container as rows, each with its place. Does not know what a row means."""
