"""What was labelled as files that others load as they are. Does not know how labels were given."""
