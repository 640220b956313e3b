"""The napari side: the only place that knows Qt, napari and magicgui."""
