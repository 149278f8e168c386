"""Models: functions from images to named endpoints, and what is put on them."""
