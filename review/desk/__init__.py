"""The part of the Review tab where one decides: a list of items, and the one that is looked at."""
