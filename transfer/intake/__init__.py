"""Taking files and written prompts in: what a file seems to hold before it is stored, and the cards that ask for it."""
