"""What a project's owner does: how labels are asked for, how good they are, and what is decided. Knows no models."""
