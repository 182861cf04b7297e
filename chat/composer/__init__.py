"""What a chat is asked with."""
