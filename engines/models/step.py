"""The graphs that a runtime executes: `SwapStep` once per frame, `IdentityGraph` once per person.

B batch   H, W the face's pixels   C latent channels   h, w = H/8, W/8   n denoising steps   N, D face tokens, width
A side of the face encoder's pictures   R past slots   S places at a level   M heads   E channels per head

Where the past's keys and values come from (`WindowConfig.memory`):

    last_step       the last denoising step leaves its own: no cost, but what they know of the result is what one look
                    at a noisy latent tells
    clean_pass      one more pass over the result at t = 0 leaves them (Self-Forcing, arXiv 2506.08009): n + 1 passes
    memory_encoder  a light network makes them of the result

Everything outside the networks is float32; `dtype` is the networks' and the memories'. It follows the weights: after
`module.to(torch.bfloat16)` the description's memories are bfloat16 too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from engines.graph import DType, GraphSpec, Memory, TensorSpec
from engines.models.attention import Ring
from engines.models.swapper import Swapper

REDUCTION = 8  # of the autoencoder
PICTURES = 2  # that a frame's encoder sees: masked and proxy
_NAMES: dict[torch.dtype, DType] = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}


class SwapStep(nn.Module):
    """One frame of `batch` sessions, as `engines.graph` wants it.

    Inputs, in order; pictures -1..1:
        masked           [B, 3, H, W]  the crop; the region of the face filled, unless the denoiser's driver is seen
        proxy            [B, 3, H, W]  the identity's rendered face
        mask             [B, 1, H, W]  0..1, 1 where the face is to be drawn
        geometry         [B, G, h, w]  only if the denoiser has geometry channels
        attribute        [B, 3, A, A]  the driver's crop
        identity_tokens  [B, 2 N, D]   from `IdentityGraph`
        weights          [B, 2]        texture (spoken for in the identity's tokens) and attribute
        noise            [B, n, C, h, w]  of unit variance
        positions, bias  [B, R]        only if W > 1: engines.window.Window.positions and .bias
        recent_order     [B, 2]        only if the autoencoder remembers: engines.window.recent_order
    Then the memories. Outputs: face [B, 3, H, W] -1..1, latent [B, C, h, w] (x0); then the memories' new slices.
    """

    def __init__(self, swapper: Swapper, batch: int = 1, dtype: torch.dtype = torch.float32) -> None:
        """Takes the swapper over: it is the swapper itself that becomes `dtype`, not a copy."""
        super().__init__()
        self.swapper = swapper.to(dtype)
        self._rings = rings(swapper, batch, "float32")
        self._past = swapper.autoencoder.memories(batch, swapper.config.size_px, PICTURES, "float32")
        self._inputs = _inputs(swapper, batch, bool(self._past))
        self._outputs = _outputs(swapper, batch)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.swapper.parameters()).dtype

    @property
    def spec(self) -> GraphSpec:
        name = _NAMES[self.dtype]
        memories = tuple(
            replace(one, kept=replace(one.kept, dtype=name), new=replace(one.new, dtype=name))
            for one in (*self._rings, *self._past)
        )
        return GraphSpec("step", self._inputs, self._outputs, memories)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        names = [spec.name for spec in self._inputs]
        inputs = dict(zip(names, given[: len(names)], strict=True))
        kept = given[len(names) :]
        ring_memories, past = kept[: len(self._rings)], kept[len(self._rings) :]
        condition, new_encoded = self._condition(inputs, past)
        tokens = self.swapper.face_encoder.tokens(
            self._inner(inputs["identity_tokens"]),
            self._inner(inputs["attribute"]),
            self._inner(inputs["weights"])[:, 1],
        )
        x0, slices = self._denoise(inputs, condition, tokens, ring_memories)
        decoded = past[len(new_encoded) :]
        face, new_decoded = self.swapper.autoencoder.decode_frame(self._inner(x0), decoded, inputs.get("recent_order"))
        face = self.swapper.drawn(face.float(), inputs["proxy"].float())
        return (face.clamp(-1, 1), x0, *slices, *new_encoded, *new_decoded)

    def _inner(self, value: Tensor) -> Tensor:
        return value.to(self.dtype)

    def _condition(self, inputs: dict[str, Tensor], past: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What the denoiser sees besides the noisy latent, in VividFace's order, and the encoder's new slices."""
        pictures = [self.swapper.shown(self._inner(inputs["masked"])), self._inner(inputs["proxy"])]
        latents, new = self._encoded(pictures, past, inputs.get("recent_order"))
        mask = self._inner(functional.avg_pool2d(inputs["mask"], REDUCTION))
        geometry = [self._inner(inputs["geometry"])] if "geometry" in inputs else []
        return torch.cat([mask, *latents, *geometry], 1), new

    def _encoded(
        self, pictures: Sequence[Tensor], past: Sequence[Tensor], order: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Each picture's latent; together where the encoder remembers nothing, which two cores share better."""
        autoencoder = self.swapper.autoencoder
        each = autoencoder.encoder_memories
        if not each:
            both, _ = autoencoder.encode_frame(torch.cat(list(pictures)))
            return list(both.chunk(len(pictures))), []
        latents: list[Tensor] = []
        new: list[Tensor] = []
        for i, picture in enumerate(pictures):
            latent, slices = autoencoder.encode_frame(picture, past[i * each : (i + 1) * each], order)
            latents.append(latent)
            new += slices
        return latents, new

    def _denoise(
        self, inputs: dict[str, Tensor], condition: Tensor, tokens: Tensor, ring_memories: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """The clean latent x0, float32, and the rings' new slices."""
        schedule, times = self.swapper.schedule, self.swapper.config.schedule.times
        noise = inputs["noise"].float()
        x, x0 = schedule.start(noise[:, 0]), noise[:, 0]
        ring = self._ring(inputs, ring_memories)
        for i, t in enumerate(times):
            if i:
                x = schedule.noisy(x0, noise[:, i], t)
                ring = self._ring(inputs, ring_memories)
            x0 = schedule.clean(x, self._look(x, t, condition, tokens, ring), t)
        return x0, self._slices(inputs, x0, condition, tokens, ring, ring_memories)

    def _look(self, x: Tensor, t: float, condition: Tensor, tokens: Tensor, ring: Ring) -> Tensor:
        """The denoiser's output for a latent at time t, float32."""
        shown, times = self._shown(x, t, condition)
        return self.swapper.denoiser.frame(shown, times, tokens, ring).float()

    def _shown(self, x: Tensor, t: float, condition: Tensor) -> tuple[Tensor, Tensor]:
        latent = self._inner(self.swapper.schedule.network_input(x))
        times = torch.full((x.shape[0],), t, dtype=torch.float32, device=x.device)
        return torch.cat([latent, condition], 1), times

    def _slices(
        self,
        inputs: dict[str, Tensor],
        x0: Tensor,
        condition: Tensor,
        tokens: Tensor,
        last: Ring,
        ring_memories: Sequence[Tensor],
    ) -> list[Tensor]:
        """This frame's keys and values for later frames: all keys, then all values."""
        if not ring_memories:
            return []
        memory = self.swapper.config.window.memory
        if memory == "last_step":
            kept = last.kept
        elif memory == "clean_pass":
            again = self._ring(inputs, ring_memories)
            self.swapper.denoiser.look_back(*self._shown(x0, 0.0, condition), tokens, again)
            kept = again.kept
        else:
            kept = self.swapper.denoiser.remember(self._inner(x0))
        return [key for key, _ in kept] + [value for _, value in kept]

    def _ring(self, inputs: dict[str, Tensor], memories: Sequence[Tensor]) -> Ring:
        half = len(memories) // 2
        return Ring(
            inputs.get("positions"),
            inputs.get("bias"),
            tuple(memories[:half]),
            tuple(memories[half:]),
            self.swapper.config.window.frames - 1,
        )


def rings(swapper: Swapper, batch: int, dtype: DType) -> tuple[Memory, ...]:
    """The keys' memories of every temporal layer, then the values'. None where the window is one frame."""
    slots = swapper.window.slots
    if slots == 0:
        return ()
    made = []
    for what in ("key", "value"):
        for i, ring in enumerate(swapper.denoiser.rings()):
            places = (swapper.config.latent_px >> ring.level) ** 2
            kept = (batch, places, ring.heads, slots, ring.head_width)
            new = (batch, places, ring.heads, ring.head_width)
            names = f"{what}_{i:02}", f"new_{what}_{i:02}"
            made.append(Memory(TensorSpec(names[0], kept, dtype), TensorSpec(names[1], new, dtype), 3, "window"))
    return tuple(made)


def _inputs(swapper: Swapper, batch: int, remembering: bool) -> tuple[TensorSpec, ...]:
    config, slots = swapper.config, swapper.window.slots
    side, latent, face = config.size_px, config.latent_px, config.face_encoder
    specs = [
        TensorSpec("masked", (batch, 3, side, side)),
        TensorSpec("proxy", (batch, 3, side, side)),
        TensorSpec("mask", (batch, 1, side, side)),
    ]
    if config.denoiser.geometry_channels:
        specs.append(TensorSpec("geometry", (batch, config.denoiser.geometry_channels, latent, latent)))
    specs += [
        TensorSpec("attribute", (batch, 3, face.picture_px, face.picture_px)),
        TensorSpec("identity_tokens", (batch, swapper.face_encoder.carried_tokens, face.token_width)),
        TensorSpec("weights", (batch, 2)),
        TensorSpec("noise", (batch, config.steps, config.denoiser.latent_channels, latent, latent)),
    ]
    if slots:
        specs += [TensorSpec("positions", (batch, slots), "int64"), TensorSpec("bias", (batch, slots))]
    if remembering:
        specs.append(TensorSpec("recent_order", (batch, 2), "int64"))
    return tuple(specs)


def _outputs(swapper: Swapper, batch: int) -> tuple[TensorSpec, ...]:
    side, latent = swapper.config.size_px, swapper.config.latent_px
    return (
        TensorSpec("face", (batch, 3, side, side)),
        TensorSpec("latent", (batch, swapper.config.denoiser.latent_channels, latent, latent)),
    )


class IdentityGraph(nn.Module):
    """What is carried of a person. Inputs: identity [B, I], texture [B, 3, A, A] -1..1, weights [B, 2], of which the
    first is used. Output: identity_tokens [B, 2 N, D]."""

    def __init__(self, swapper: Swapper, batch: int = 1, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.face_encoder = swapper.face_encoder.to(dtype)
        config = swapper.config.face_encoder
        self.spec = GraphSpec(
            "identity",
            (
                TensorSpec("identity", (batch, config.identity_width)),
                TensorSpec("texture", (batch, 3, config.picture_px, config.picture_px)),
                TensorSpec("weights", (batch, 2)),
            ),
            (TensorSpec("identity_tokens", (batch, self.face_encoder.carried_tokens, config.token_width)),),
        )

    @property
    def dtype(self) -> torch.dtype:
        return next(self.face_encoder.parameters()).dtype

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        identity, texture, weights = (value.to(self.dtype) for value in given)
        tokens = self.face_encoder.identity_tokens(identity, texture, weights[:, 0])
        return (tokens.float(),)
