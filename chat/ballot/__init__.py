"""The buttons under a chat that say which answer is better."""
