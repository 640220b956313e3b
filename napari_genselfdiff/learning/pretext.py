"""Which pretext a recipe asks for: settings, and the objective made from them."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from napari_genselfdiff.backbone.noise import NoiseConfig, NoiseSchedule, Prediction, Weighting
from napari_genselfdiff.learning.masking import MaskConfig, Masking
from napari_genselfdiff.learning.objectives import Denoising, Pretext

PretextName = Literal["noise", "masked"]


class PretextConfig(BaseModel):
    """How images are damaged for the network to mend.

    ``noise`` is Gaussian diffusion and reads ``noise``, ``weighting`` and ``prediction``;
    ``masked`` hides patches and reads ``masking``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pretext: PretextName = "noise"
    noise: NoiseConfig = NoiseConfig()
    weighting: Weighting = "p2"
    prediction: Prediction = "epsilon"
    masking: MaskConfig = MaskConfig()

    @model_validator(mode="after")
    def _nothing_set_in_vain(self) -> Self:
        idle = ("masking",) if self.pretext == "noise" else ("noise", "weighting", "prediction")
        fields = type(self).model_fields
        vain = [name for name in idle if getattr(self, name) != fields[name].default]
        if vain:
            raise ValueError(
                f"pretext = {self.pretext!r} does not use {', '.join(vain)}; leave it out"
            )
        return self

    def build(self, seed: int) -> Pretext:
        """The objective; its randomness depends on (seed, sample index) alone."""
        if self.pretext == "masked":
            return Masking(self.masking, seed)
        return Denoising(NoiseSchedule(self.noise), self.weighting, self.prediction, seed)

    def card_fields(self) -> dict[str, Any]:
        """What a backbone's card says about its pretext."""
        if self.pretext == "masked":
            return {
                "schedule": "masked",
                "timesteps": self.masking.timesteps,
                "prediction": "sample",
                "weighting": self.masking.loss,
            }
        return {
            "schedule": self.noise.schedule,
            "timesteps": self.noise.timesteps,
            "prediction": self.prediction,
            "weighting": self.weighting,
        }
