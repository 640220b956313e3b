"""The diffusion backbone: noise schedules, U-Net, heads, samplers, weights."""
