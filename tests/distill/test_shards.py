"""Shards: whole or not there, and nothing cut or damaged is ever read as if it were whole."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from distill.errors import BadShard, NotWritten
from distill.shards import MANIFEST_NAME, open_shard, open_shards, read_manifest, write_manifest, write_shard


def samples(count: int = 6, salt: int = 0) -> list[tuple[str, dict[str, bytes]]]:
    return [
        (f"clip-{n:04}", {"000.jpg": bytes([n + salt] * 700), "json": b'{"n": %d}' % n, "empty": b""})
        for n in range(count)
    ]


def test_gives_back_what_was_written_in_any_order(tmp_path: Path) -> None:
    entry = write_shard(tmp_path / "a.tar", samples())
    shard = open_shard(tmp_path / "a.tar", entry)
    assert entry.samples == len(shard) == 6
    for number in (5, 0, 3):
        assert (shard.keys[number], shard[number]) == samples()[number]
    assert write_shard(tmp_path / "b.tar", samples()).sha256 == entry.sha256, "the same samples give the same bytes"


def test_other_tools_read_it_and_it_reads_theirs(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", samples(2))
    listed = subprocess.run(["tar", "tf", str(tmp_path / "a.tar")], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [f"clip-{n:04}.{e}" for n in range(2) for e in ("000.jpg", "json", "empty")]
    with tarfile.open(tmp_path / "pax.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("./d/one.jpg", "./d/one.seg.png", "./d/two.jpg", "./d/" + "long" * 40 + ".jpg"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    shard = open_shard(tmp_path / "pax.tar")
    assert shard.keys == ("./d/one", "./d/two", "./d/" + "long" * 40)
    assert shard[0] == {"jpg": b"abc", "seg.png": b"abc"}


def test_cut_anywhere_it_is_refused_by_name(tmp_path: Path) -> None:
    """Also exactly between two members, where tarfile alone sees a regular end."""
    path = tmp_path / "whole.tar"
    write_shard(path, samples())
    whole = path.read_bytes()
    cut = tmp_path / "cut-short.tar"
    end = len(whole.rstrip(b"\0"))
    for length in [0, 1, 511, 512, 700, *range(1024, end, 512), end - 1, end + 200]:
        cut.write_bytes(whole[:length])
        with pytest.raises(BadShard, match=r"cut-short\.tar"):
            open_shard(cut)


def test_a_damaged_header_in_the_middle_is_no_end(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    write_shard(path, samples())
    whole = bytearray(path.read_bytes())
    at = whole.index(b"clip-0003")
    whole[at + 2] ^= 255
    path.write_bytes(whole)
    with pytest.raises(BadShard, match=r"a\.tar"):
        open_shard(path)


def test_the_manifest_finds_flipped_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    entry = write_shard(path, samples())
    flipped = bytearray(path.read_bytes())
    flipped[600] ^= 1
    path.write_bytes(flipped)
    open_shard(path)  # the tar is regular
    with pytest.raises(BadShard, match="sha256"):
        open_shard(path, entry)


def test_a_folder_with_a_bad_shard_gives_the_others_and_says_which(tmp_path: Path) -> None:
    write_manifest(tmp_path, [write_shard(tmp_path / f"{n}.tar", samples(salt=n)) for n in range(3)])
    half = tmp_path / "1.tar"
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    write_shard(tmp_path / "stranger.tar", samples())
    good, bad = open_shards(tmp_path)
    assert [shard.path.name for shard in good] == ["0.tar", "2.tar"]
    assert [str(error).split(": ")[0] for error in bad] == [str(half), str(tmp_path / "stranger.tar")]
    for shard in good:
        shard.path.unlink()
    with pytest.raises(BadShard, match="no shard in it can be used"):
        open_shards(tmp_path)


def test_a_folder_without_a_manifest_is_taken_as_it_is(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", samples())
    good, bad = open_shards(tmp_path)
    assert (len(good), bad) == (1, [])
    with pytest.raises(BadShard, match="no shard"):
        open_shards(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format": "other"}', b'{"format": "vividstream-shards-1"}'])
def test_a_manifest_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(BadShard, match=MANIFEST_NAME):
        read_manifest(tmp_path)


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[tuple[str, dict[str, bytes]]]:
        yield from samples(2)
        raise RuntimeError("power")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "a.tar", failing())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rewrite_keeps_the_old_shard(tmp_path: Path) -> None:
    entry = write_shard(tmp_path / "a.tar", samples())
    with pytest.raises(ValueError, match="key"):
        write_shard(tmp_path / "a.tar", [*samples(2), samples()[0]])
    assert open_shard(tmp_path / "a.tar", entry).keys[-1] == "clip-0005"


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "k" * 99])
def test_keys_that_the_format_cannot_carry(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=r"key|100"):
        write_shard(tmp_path / "a.tar", [(key, {"jpg": b""})])


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from distill.errors import NotWritten
from distill.shards import write_shard
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write_shard(Path(sys.argv[1]), [(f"k{n}", {"jpg": bytes(9_000)}) for n in range(20)])
except NotWritten as error:
    print(error)
"""


def test_a_full_disk_is_reported_by_name_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "full.tar"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{path}: cannot be written: ")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritten, match=r"a\.tar"):
        write_shard(tmp_path / "file" / "a.tar", samples())
