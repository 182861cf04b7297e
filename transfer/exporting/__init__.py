"""What was labelled as files that others load as they are, and its cards. Does not know how labels were given."""
