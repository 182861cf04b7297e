"""How an answer of a chat was made, and whether it comes again."""
