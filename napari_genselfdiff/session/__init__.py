"""What is open and what can be done with it; no Qt, no napari."""
