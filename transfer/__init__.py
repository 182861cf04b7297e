"""What comes into a project and goes out of it: files, generated candidates, the example. Knows no SQL, no torch."""
