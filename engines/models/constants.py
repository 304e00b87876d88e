"""Tensors that a module computes for itself: no file of weights holds them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def constant(module: nn.Module, name: str, make: Callable[[], Tensor]) -> None:
    """Gives the module a buffer that moves with it but is in no file.

    A module that was made on the meta device, without memory, gets the buffer together with its weights.
    """
    module.register_buffer(name, make(), persistent=False)

    def with_weights(owner: nn.Module, _: object) -> None:
        if getattr(owner, name).is_meta:
            like = next(owner.parameters())
            setattr(owner, name, make().to(like.device, like.dtype))

    module.register_load_state_dict_post_hook(with_weights)  # type: ignore[no-untyped-call]
