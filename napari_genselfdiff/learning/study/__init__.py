"""How good is a segmenter that has seen only a few labels: runs, baselines, honest scoring."""
