"""What plait is compared with, each in an environment of its own; nothing here imports plait."""
