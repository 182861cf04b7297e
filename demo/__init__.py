"""The embedded demo model: what it knows, how it is rebuilt, and how its answers are measured."""
