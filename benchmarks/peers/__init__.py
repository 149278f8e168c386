"""What a user would pick instead. Nothing here imports tfxfer, so that each can run in an environment without it."""
