"""Which model is better, by what people preferred: ranking, match lists, rounds. It does not know how answers are made."""
