"""`vividstream engines` as somebody meets it for the first time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from engines import store
from engines.build.command import select
from engines.errors import SettingError, UnknownEngine
from engines.store import Entry, Wanted
from streamer import cli
from tests.engines.small_engine import ROOT

NO_TORCH = "import sys; sys.modules['torch'] = None; from streamer.cli import main; main({!r})"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    status = 0
    try:
        cli.main(["engines", *arguments])
    except SystemExit as ended:
        status = int(ended.code or 0)
    said = capsys.readouterr()
    return status, said.out, said.err


def test_list_shows_what_draws_and_what_is_built(capsys: pytest.CaptureFixture[str], built_store: Path) -> None:
    status, out, _ = run(capsys, "list", "--store", str(built_store))
    assert status == 0
    lines = out.splitlines()
    rows = [line.split() for line in lines if line.split()[1:2] == ["small"]]
    assert sorted(row[2] for row in rows) == ["ort", "torch"]
    assert all(line.endswith("fits this machine") for line in lines if " small " in line)
    assert any(line.startswith("auto takes ") for line in lines)


def test_list_as_json(capsys: pytest.CaptureFixture[str], built_store: Path) -> None:
    facts = json.loads(run(capsys, "list", "--json", "--store", str(built_store))[1])
    assert {one["name"] for one in facts["engines"]} >= {"proxy", "passthrough", "tiny"}
    assert {one["runtime"] for one in facts["built"]} == {"ort", "torch"}
    assert facts["built"][0]["unfit"] == ""
    assert facts["store"] == str(built_store)


def test_an_empty_store_tells_how_to_begin(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _, out, _ = run(capsys, "list", "--store", str(tmp_path))
    assert f"no engine is built in {tmp_path}; `vividstream engines build --help` says how" in out
    assert "build it: `vividstream engines build base --weights FILE`" in out
    for arguments in (("verify",), ("prune",)):
        status, out, _ = run(capsys, *arguments, "--store", str(tmp_path / "nowhere"))
        assert status == 0
        assert out


def test_a_broken_engine_is_listed_as_broken(capsys: pytest.CaptureFixture[str], store_copy: Path) -> None:
    entry = store.find(Wanted("small", "ort"), store_copy)
    (entry.folder / "manifest.json").write_text("{", encoding="utf-8")
    status, out, _ = run(capsys, "list", "--store", str(store_copy))
    assert status == 0
    assert "broken: " in out
    assert run(capsys, "verify", "--quick", "--store", str(store_copy))[0] == 1


def test_verify_draws_the_whole_rollout(capsys: pytest.CaptureFixture[str], built_store: Path) -> None:
    status, out, _ = run(capsys, "verify", "--threads", "1", "--json", "--store", str(built_store))
    assert status == 0
    found = json.loads(out)["engines"]
    assert [one["fault"] for one in found] == ["", ""]
    assert all(max(result["frame"] for result in one["results"]) == 11 for one in found)


def test_verify_names_what_is_wrong_and_fails(capsys: pytest.CaptureFixture[str], store_copy: Path) -> None:
    entry = store.find(Wanted("small", "ort"), store_copy)
    path = entry.folder / "step.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    status, out, _ = run(capsys, "verify", "small", "--quick", "--store", str(store_copy))
    assert status == 1
    bad = next(line for line in out.splitlines() if line.startswith(entry.key[:12]))
    assert "step.onnx is cut" in bad
    assert bad.count("vividstream engines build small --runtime ort") == 1
    assert "whole, and fits this machine" in out
    assert run(capsys, "verify", "small", "--store", str(store_copy), "--quick", "--json")[0] == 1


def test_describe_says_what_an_engine_is(capsys: pytest.CaptureFixture[str], built_store: Path) -> None:
    entry = store.find(Wanted("small", "ort"), built_store)
    _, out, _ = run(capsys, "describe", entry.key[:8], "--store", str(built_store))
    for words in ("small, 64 px, 1 step,", "CC0-1.0", entry.key, "engines build small --runtime ort", "step.onnx"):
        assert words in out
    facts = json.loads(run(capsys, "describe", entry.key, "--json", "--store", str(built_store))[1])
    assert facts["key"]["runtime"] == "ort"
    assert "parameters" in run(capsys, "describe", "tiny")[1]
    assert json.loads(run(capsys, "describe", "tiny", "--steps", "2", "--json")[1])["steps"] == 2


def test_prune_removes_what_it_is_told(capsys: pytest.CaptureFixture[str], store_copy: Path) -> None:
    entry = store.find(Wanted("small", "ort"), store_copy)
    _, out, _ = run(capsys, "prune", entry.key[:12], "--dry-run", "--store", str(store_copy))
    assert "1 would be removed" in out
    assert entry.folder.exists()
    facts = json.loads(run(capsys, "prune", entry.key[:12], "--json", "--store", str(store_copy))[1])
    assert [one["folder"] for one in facts["removed"]] == [str(entry.folder)]
    assert not entry.folder.exists()
    assert run(capsys, "prune", "--store", str(store_copy))[1] == "nothing to remove\n"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("lst",), 2, "Did you mean 'list'?"),
        (("build",), 2, "Missing argument 'NAME'"),
        (("build", "tinny", "--random-weights", "0"), 1, 'no preset "tinny"; did you mean "tiny"?'),
        (("build", "base"), 1, 'no trained weights of "base" come with vividstream: give --weights FILE'),
        (("build", "tiny", "--weights", "/nowhere.safetensors"), 1, "/nowhere.safetensors: no such file"),
        (("build", "tiny", "--runtime", "tensort"), 2, "'tensort' is not one of"),
        (("build", "tiny", "--random-weights", "0", "--size", "100"), 1, 'setting "size"'),
        (("build", "tiny", "--random-weights", "0", "--steps", "9"), 1, 'setting "steps"'),
        (("build", "tiny", "--random-weights", "0", "--device", "gpu"), 1, 'setting "device"'),
        (("build", "tiny", "--random-weights", "0", "--precision", "float16"), 1, "float32 on a CPU, not in float16"),
        (("describe", "tinny"), 1, 'did you mean "tiny"?'),
        (("verify", "tinny"), 1, 'no engine "tinny"'),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_call_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: Sequence[str], status: int, said: str
) -> None:
    where = () if arguments == ("lst",) else ("--store", str(tmp_path))
    code, _, err = run(capsys, *arguments, *where)
    assert code == status
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    assert said in err


def test_tensorrt_says_what_to_install_where_it_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    try:
        import tensorrt  # noqa: F401
    except (ImportError, OSError):
        pass
    else:
        pytest.skip("TensorRT is installed here")
    asked = ("build", "tiny", "--random-weights", "0", "--runtime", "tensorrt", "--device", "cuda")
    status, _, err = run(capsys, *asked, "--store", str(tmp_path))
    assert status == 1
    assert "pip install vividstream[gpu]" in err
    assert list(tmp_path.iterdir()) == []


def test_the_store_can_be_set_by_a_variable(
    capsys: pytest.CaptureFixture[str], built_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all commands, and of sessions, which have no option for it."""
    monkeypatch.setenv(store.STORE_VARIABLE, str(built_store))
    assert " small " in run(capsys, "list")[1]
    assert store.find(Wanted("small", "ort")).folder.parent == built_store


def without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", NO_TORCH.format(["engines", *arguments])],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ},
        timeout=100,
    )


def test_a_base_install_lists_and_says_what_else_is_needed(built_store: Path) -> None:
    done = without_torch("list", "--store", str(built_store))
    assert done.returncode == 0, done.stderr
    assert " small " in done.stdout
    for command in (("build", "tiny", "--random-weights", "0"), ("describe", "tiny")):
        done = without_torch(*command)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            f"error: `vividstream engines {command[0]}` needs torch, which the extra `train` brings: "
            'pip install "vividstream[train]"'
        ]


def test_a_base_install_verifies_engines_of_onnx_runtime(built_store: Path) -> None:
    key = store.find(Wanted("small", "ort"), built_store).key
    done = without_torch("verify", key, "--threads", "1", "--store", str(built_store))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good: at most" in done.stdout


def entry(key: str, name: str) -> Entry:
    class Fake:
        class key:
            pass

    fake: Any = Fake
    fake.key.name = name
    return Entry(Path(key), fake)


def test_engines_are_chosen_by_name_or_by_the_first_digits() -> None:
    tiny, other = entry("abcd" + "0" * 60, "tiny"), entry("abce" + "0" * 60, "other")
    there, where = [tiny, other], Path("store")
    assert select((), there, where) == there
    assert select(("other",), there, where) == [other]
    assert select(("abcd", "tiny"), there, where) == [tiny]
    with pytest.raises(UnknownEngine, match='no engine "abc"'):
        select(("abc",), there, where)
    with pytest.raises(SettingError, match='"abcd0" begins 2 keys'):
        select(("abcd0",), [tiny, entry("abcd0" + "1" * 59, "third")], where)
    with pytest.raises(UnknownEngine, match="none is built"):
        select(("tiny",), [], where)
