"""Many heads tried side by side on the same stored features."""
