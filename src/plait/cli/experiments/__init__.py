"""The commands around experiments: `plait eval`, `compare`, `experiments`, `report`."""
