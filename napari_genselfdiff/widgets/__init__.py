"""The dock, and everything that knows Qt and napari."""
