"""The report of a run: what it learned, how sure that is, and which labels it contradicts, for people."""
