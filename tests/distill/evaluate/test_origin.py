"""Where figures come from, and which judges are biased by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.evaluate.by_file import sha256_of
from distill.evaluate.origin import Origin, loss_networks, machine_facts, of_engine
from engines import EngineUnavailable, SwapSettings


def test_the_networks_of_a_model_card_s_losses_are_known() -> None:
    digest = "0123456789abcdef" * 4
    assert loss_networks((f"ArcFace w600k_r50 sha256:{digest}", "a loss without a network")) == {
        digest: "a loss in training (ArcFace w600k_r50)"
    }


def test_a_swapper_s_own_embedder_is_no_judge(tmp_path: Path) -> None:
    """inswapper draws what w600k_r50 wants to see: by that judge it is the best there is."""
    files = {name: tmp_path / f"{name}.onnx" for name in ("model", "embedder")}
    for name, path in files.items():
        path.write_bytes(name.encode())
    origin = of_engine(
        SwapSettings(engine="onnx", label=False, model=files["model"], embedder=files["embedder"]), "asked for"
    )
    assert origin.facts["model_sha256"] == sha256_of(files["model"])
    assert sha256_of(files["embedder"]) in origin.known_networks
    assert any(line.startswith("model_sha256=") for line in origin.key)
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        of_engine(SwapSettings(engine="onnx", model=tmp_path / "none.onnx"), "")


def test_another_setting_is_another_origin_and_the_reason_is_none() -> None:
    one = of_engine(SwapSettings(engine="proxy", tone="driver"), "why")
    other = of_engine(SwapSettings(engine="proxy", tone="mix"), "why")
    assert one.key != other.key
    assert Origin({**one.facts, "why": "something else"}).key == one.key


def test_the_machine_is_named() -> None:
    assert {"revision", "measured", "numpy", "mediapipe", "torch"} <= set(machine_facts())
