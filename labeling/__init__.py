"""What an annotator does: get the next card, judge it, take it back. It does not know models or training."""
