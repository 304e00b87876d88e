"""What an import refuses, in words that name the keys, and what it says of what it did."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from engines import weights
from engines.build.import_command import import_command
from engines.build.import_kinds import KINDS
from engines.build.import_sources import open_source
from engines.build.import_text import empty_prompt
from engines.build.import_weights import Imported, import_weights
from engines.errors import VividError, WeightsError
from engines.models.config import SwapperConfig
from engines.models.swapper import Swapper
from engines.models.temporal import fold_future
from tests.engines.build.import_nets import (
    adapter,
    config,
    named_weights,
    saved,
    svd_vae,
    their_shapes,
    unet,
    vae,
    write_file,
)
from tests.engines.build.official_goldens import clip_shapes

STEM = "diffusion_pytorch_model.safetensors"
TO_Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
OUR_TO_Q = "denoiser.down.0.layers.0.spatial.attn1.to_q.weight"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nets")
    for name, net in {"unet": unet(), "motion": adapter(), "vae": vae(), "svd": svd_vae()}.items():
        saved(net, folder / name)
    return folder


@pytest.fixture
def state(nets: Path) -> dict[str, torch.Tensor]:
    return load_file(nets / "unet" / STEM)


Change = Callable[[dict[str, torch.Tensor]], Any]


def merged(paths: Sequence[Path], wanted: SwapperConfig, partial: bool = True, from_torch: bool = False) -> Imported:
    return import_weights([open_source(path, from_torch=from_torch) for path in paths], wanted, partial=partial)


def refused(*paths: Path, wanted: SwapperConfig | None = None, partial: bool = True, from_torch: bool = False) -> str:
    with pytest.raises(WeightsError) as caught:
        merged(paths, wanted or config(), partial, from_torch)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- keys


def test_an_unknown_key_is_named(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    state["down_blocks.0.novelty.weight"] = torch.zeros(1)
    assert "down_blocks.0.novelty.weight" in refused(write_file(tmp_path / "u.safetensors", state))


def test_missing_keys_are_named_although_parts_may_stay_random(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    del state[TO_Q]
    message = refused(write_file(tmp_path / "u.safetensors", state))
    assert "missing" in message
    assert OUR_TO_Q in message


def test_misshapen_keys_are_named_with_both_shapes(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    state[TO_Q] = torch.zeros(32, 31)
    message = refused(write_file(tmp_path / "u.safetensors", state))
    assert f"{TO_Q} is [32, 31], and {OUR_TO_Q} [32, 32]" in message


def test_many_keys_are_counted(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    strays = {f"stray.{n}.weight": torch.zeros(1) for n in range(9)}
    assert "and 5 more" in refused(write_file(tmp_path / "u.safetensors", state | strays))


def test_conv_in_of_five_channels_means_nothing_known(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    state["conv_in.weight"] = torch.zeros(32, 5, 3, 3)
    assert "conv_in.weight is [32, 5, 3, 3]" in refused(write_file(tmp_path / "u.safetensors", state))


def test_the_same_tensor_from_two_sources_is_refused(nets: Path, tmp_path: Path) -> None:
    other = saved(unet(seed=9), tmp_path / "other")
    message = refused(nets / "unet", other)
    assert "nets0/unet" in message
    assert "other" in message
    assert "denoiser.conv_in" in message


def test_what_no_source_gives_is_refused_unless_it_is_asked_for(nets: Path) -> None:
    message = refused(nets / "unet", partial=False)
    assert "autoencoder." in message
    assert "--partial" in message
    first, again = merged([nets / "unet"], config()), merged([nets / "unet"], config())
    assert first.random
    assert all(torch.equal(first.tensors[name], again.tensors[name]) for name in first.random)
    drawn = Swapper(first.config).initialise(0).state_dict()
    assert all(torch.equal(first.tensors[name], drawn[name]) for name in first.random)


def test_what_the_configuration_has_no_place_for_is_named_and_left_out_only_if_asked(nets: Path) -> None:
    coarse = config(motion=True, denoiser={"temporal": (False, True)})
    message = refused(nets / "unet", nets / "motion", wanted=coarse, partial=False)
    assert "no place for" in message
    assert "down_blocks.0.motion_modules.0" in message
    left_out = merged([nets / "unet", nets / "motion"], coarse).taken[1].no_place
    assert left_out
    assert all(".0.motion_modules." in key or "up_blocks.1." in key for key in left_out)


def test_every_number_arrives_where_the_table_says(nets: Path) -> None:
    found = merged([nets / "unet", nets / "motion", nets / "vae"], config(motion=True))
    source = load_file(nets / "unet" / STEM)
    assert torch.equal(found.tensors[OUR_TO_Q], source[TO_Q])
    assert torch.equal(found.tensors["denoiser.conv_in.weight"][:, :4], source["conv_in.weight"])
    assert not found.tensors["denoiser.conv_in.weight"][:, 4:].any()
    assert {name.split(".")[0] for name in found.random} == {"denoiser", "face_encoder"}
    assert all("_face" in name or "text" in name or "face_encoder" in name for name in found.random)


def test_a_motion_module_with_a_trained_position_table_is_refused(nets: Path, tmp_path: Path) -> None:
    state = load_file(nets / "motion" / STEM)
    key = "mid_block.motion_modules.0.transformer_blocks.0.pos_embed.pe"
    state[key] = state[key] + 0.1
    message = refused(write_file(tmp_path / "m.safetensors", state), wanted=config(motion=True))
    assert key in message
    assert "sinusoidal" in message


# ---- VividFace's files, made from the tables read backwards


@pytest.fixture(scope="module")
def vividface(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("vividface")
    with torch.device("meta"):
        ours = {name: tuple(tensor.shape) for name, tensor in Swapper(WHOLE).state_dict().items()}
    files = {
        kind.name: write_file(folder / f"{kind.name}.safetensors", named_weights(their_shapes(kind.rules, ours)))
        for kind in KINDS
        if kind.name in ("VividFace denoising_unet", "VividFace face3dvae", "DINOv2")
    }
    return files | {"text": write_file(folder / "text.safetensors", named_weights(clip_shapes()))}


WHOLE = config(
    motion=True,
    temporal=(True, True),
    denoiser={"text_tokens": 77},
    autoencoder={"encoder_blocks": 3},
    face_encoder={"backbone": "vit", "picture_px": 28},
)


def test_all_of_vividfaces_files_together_leave_nothing_random(vividface: dict[str, Path]) -> None:
    found = merged(list(vividface.values()), WHOLE, partial=False)
    assert found.random == []
    text = found.tensors["denoiser.text_1LD"]
    weights_of_text = open_source(vividface["text"]).tensors
    # With VividFace's UNet, the text encoder's last layer is left out; with any other it is not.
    assert torch.equal(text, empty_prompt(weights_of_text, 1))
    alone = merged([vividface["text"]], WHOLE).tensors["denoiser.text_1LD"]
    assert torch.equal(alone, empty_prompt(weights_of_text))
    assert not torch.equal(alone, text)


def test_weights_for_streams_see_no_next_frame(vividface: dict[str, Path]) -> None:
    path = vividface["VividFace face3dvae"]
    plain, causal = merged([path], WHOLE), import_weights([open_source(path)], WHOLE, partial=True, causal=True)
    swapper = Swapper(plain.config)
    swapper.load_state_dict(plain.tensors)
    with torch.no_grad():
        fold_future(swapper)
    assert all(torch.equal(tensor, causal.tensors[name]) for name, tensor in swapper.state_dict().items())
    changed = [name for name, tensor in plain.tensors.items() if not torch.equal(tensor, causal.tensors[name])]
    assert len(changed) == len([name for name, tensor in plain.tensors.items() if tensor.ndim == 5]) > 0
    assert "folded" in causal.taken[0].notes[0]


def test_a_convolution_under_two_names_must_be_one(vividface: dict[str, Path], tmp_path: Path) -> None:
    state = load_file(vividface["VividFace face3dvae"])
    plain = "encoder.down_blocks.0.downsamplers.0.conv.weight"
    twin = plain.replace(".conv.", ".Conv2d_0.")
    same = merged([write_file(tmp_path / "same.safetensors", state | {twin: state[plain].clone()})], WHOLE)
    assert torch.equal(same.tensors["autoencoder.encoder.down_blocks.0.resample.conv.weight"], state[plain])
    message = refused(write_file(tmp_path / "other.safetensors", state | {twin: state[plain] + 1}), wanted=WHOLE)
    assert "gives autoencoder.encoder.down_blocks.0.resample.conv.weight, which another" in message


def test_a_text_encoder_of_another_size_or_vocabulary_is_refused(vividface: dict[str, Path], tmp_path: Path) -> None:
    assert "misshapen" in refused(vividface["text"], wanted=config())
    state = load_file(vividface["text"])
    key = "text_model.embeddings.token_embedding.weight"
    few = write_file(tmp_path / "few.safetensors", state | {key: state[key][:1000].clone()})
    assert "1000 words" in refused(few, wanted=WHOLE)
    del state["text_model.final_layer_norm.weight"]
    assert "final_layer_norm" in refused(write_file(tmp_path / "cut.safetensors", state), wanted=WHOLE)


# ---- kinds and configurations


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", "original layout"),
        ("module.down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", "AnimateDiff's original"),
        ("lora_unet_down_blocks_0.lora_up.weight", "LoRA"),
        ("denoiser.conv_in.weight", "vividstream's own"),
        ("layer.weight", "AutoencoderKLTemporalDecoder"),
    ],
)
def test_what_is_not_imported_is_refused_with_what_to_do(tmp_path: Path, key: str, words: str) -> None:
    assert words in refused(write_file(tmp_path / "x.safetensors", {key: torch.zeros(1)}))


@pytest.mark.parametrize(
    ("folder", "field", "value"),
    [
        ("unet", "attention_head_dim", 4),
        ("unet", "attention_head_dim", [8, 4]),
        ("unet", "act_fn", "gelu"),
        ("unet", "norm_num_groups", 16),
        ("motion", "motion_num_attention_heads", 4),
        ("vae", "norm_num_groups", 16),
    ],
)
def test_a_config_beside_it_must_not_contradict_ours(
    nets: Path, tmp_path: Path, folder: str, field: str, value: Any
) -> None:
    """Heads and groups do not show in any shape: with the wrong ones everything fits and nothing is right."""
    values = json.loads((nets / folder / "config.json").read_text(encoding="utf-8")) | {field: value}
    path = write_file(tmp_path / folder / STEM, load_file(nets / folder / STEM)).parent
    (path / "config.json").write_text(json.dumps(values), encoding="utf-8")
    message = refused(path, wanted=config(motion=folder == "motion"))
    assert f"{field} is {value}" in message


def test_what_shapes_do_not_show_follows_the_source_and_is_said(nets: Path) -> None:
    wanted = config(autoencoder={"encoder_padding": "around"})
    found = merged([nets / "unet", nets / "vae"], wanted)
    assert found.config.schedule.prediction == "noise"
    assert found.config.autoencoder.encoder_padding == "corner"
    assert found.config.autoencoder.scale == pytest.approx(0.18215)
    said = " ".join(found.notes)
    assert "schedule.prediction" in said
    assert "encoder_padding" in said
    assert "scale" in said


def test_a_still_autoencoder_does_not_pass_for_one_with_time(nets: Path) -> None:
    found = merged([nets / "vae"], config(temporal=(False, True)))
    assert any(".temporal." in name for name in found.random)
    assert "no source gives" in refused(nets / "vae", wanted=config(temporal=(False, True)), partial=False)
    assert "no place for" in refused(nets / "svd", wanted=config(), partial=False)


# ---- files


def test_pickles_are_refused_and_read_only_when_asked_for(nets: Path, tmp_path: Path) -> None:
    path = tmp_path / "unet.ckpt"
    torch.save({"state_dict": load_file(nets / "unet" / STEM), "epoch": 3}, path)
    assert "--from-torch" in refused(path)
    found = merged([path], config(), from_torch=True)
    assert torch.equal(found.tensors[OUR_TO_Q], load_file(nets / "unet" / STEM)[TO_Q])
    (tmp_path / "folder").mkdir()
    path.rename(tmp_path / "folder" / "unet.bin")
    assert "--from-torch" in refused(tmp_path / "folder")
    assert merged([tmp_path / "folder"], config(), from_torch=True).taken


class Mischief:
    """Unpickled by a careless reader, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1), "more": Mischief(tmp_path / "ran")}, tmp_path / "evil.pt")
    assert "cannot be read as plain tensors" in refused(tmp_path / "evil.pt", from_torch=True)
    assert not (tmp_path / "ran").exists()


def test_a_model_in_several_files_is_one_source(nets: Path, tmp_path: Path) -> None:
    state = load_file(nets / "unet" / STEM)
    names, half = list(state), len(state) // 2
    parts = {"a.safetensors": names[:half], "b.safetensors": names[half:]}
    for file, keys in parts.items():
        write_file(tmp_path / "unet" / file, {key: state[key] for key in keys})
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (tmp_path / "unet" / f"{STEM}.index.json").write_text(json.dumps(index), encoding="utf-8")
    whole, split = merged([nets / "unet"], config()), merged([tmp_path / "unet"], config())
    assert all(torch.equal(tensor, split.tensors[name]) for name, tensor in whole.tensors.items())
    (tmp_path / "unet" / "b.safetensors").unlink()
    assert "b.safetensors" in refused(tmp_path / "unet")


def test_half_precision_is_taken_as_it_is(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    half = {name: tensor.half() for name, tensor in state.items()}
    found = merged([write_file(tmp_path / "u.safetensors", half)], config())
    assert torch.equal(found.tensors[OUR_TO_Q], half[TO_Q])


@pytest.mark.parametrize("length", [0, 7, 100, 100_000])
def test_a_truncated_source_is_refused(nets: Path, tmp_path: Path, length: int) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((nets / "unet" / STEM).read_bytes()[:length])
    assert "cut.safetensors" in refused(cut)


def test_a_folder_of_folders_says_which_there_are(nets: Path) -> None:
    assert "motion, svd, unet, vae" in refused(nets)


def test_a_config_that_is_no_json_is_said(nets: Path, tmp_path: Path) -> None:
    path = write_file(tmp_path / STEM, load_file(nets / "unet" / STEM))
    (tmp_path / "config.json").write_text("{")
    assert "config.json" in refused(path)


# ---- the command


def run(*arguments: object) -> Result:
    return CliRunner().invoke(import_command, [str(argument) for argument in arguments])


@pytest.fixture
def as_motion(tmp_path: Path) -> Path:
    path = tmp_path / "small.json"
    path.write_text(config(motion=True).model_dump_json(), encoding="utf-8")
    return path


def test_the_command_merges_says_what_came_from_where_and_writes_weights_that_load(
    nets: Path, tmp_path: Path, as_motion: Path
) -> None:
    out = tmp_path / "w.safetensors"
    sources = [nets / name for name in ("unet", "motion", "vae")]
    done = run(*sources, "--as", as_motion, "-o", out, "--licence", "RAIL-M", "--partial", "--dtype", "float16")
    assert done.exit_code == 0, done.output
    for words in ("UNet2DConditionModel", "MotionAdapter", "AutoencoderKL", "start at zero", "still random", "sha256"):
        assert words in done.output
    contents = weights.check(out)
    assert contents.card.licence == "RAIL-M"
    assert len(contents.card.sources) == 3
    assert any("face_encoder" in part for part in contents.card.untrained)
    assert {entry.dtype for entry in contents.tensors.values()} == {"F16"}
    swapper = Swapper(contents.card.config)
    weights.load_into(swapper, out, contents.card.config)
    theirs = load_file(nets / "unet" / STEM)[TO_Q]
    assert torch.equal(swapper.state_dict()[OUR_TO_Q], theirs.half().float())


def test_the_command_speaks_json(nets: Path, tmp_path: Path, as_motion: Path) -> None:
    out = tmp_path / "w.safetensors"
    done = run(nets / "unet", nets / "motion", "--as", as_motion, "-o", out, "--licence", "x", "--partial", "--json")
    facts = json.loads(done.stdout)
    assert facts["sources"][1]["not_taken"] == {"computed, not learned": 11}
    assert facts["sha256"] == weights.inspect(out).sha256


def test_a_refused_import_writes_nothing(nets: Path, tmp_path: Path, as_motion: Path) -> None:
    before = sorted(tmp_path.iterdir())
    done = run(nets / "unet", "--as", as_motion, "-o", tmp_path / "w.safetensors", "--licence", "x")
    assert isinstance(done.exception, WeightsError)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "words"), [("ful", "full"), ("nowhere.json", "No such file"), ("broken.json", "whole")]
)
def test_an_unknown_configuration_is_said(nets: Path, tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "broken.json").write_text("{")
    where = tmp_path / name if name.endswith(".json") else Path(name)
    done = run(nets / "unet", "--as", where, "-o", tmp_path / "w.safetensors", "--licence", "x")
    assert isinstance(done.exception, VividError)
    assert words in str(done.exception)


def test_the_command_belongs_to_the_engines_group() -> None:
    from engines.build.command import engines_group

    assert engines_group.get_command(click.Context(engines_group), "import") is import_command
