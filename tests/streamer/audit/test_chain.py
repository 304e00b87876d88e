"""The audit log: whatever is changed, moved, put in, taken out or cut off is found, and nothing else."""

from __future__ import annotations

import io
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines import SwapSettings, VividError, canonical, local_key
from streamer.audit.chain import FIRST, Head, next_line, read_all
from streamer.audit.command import audit_group
from streamer.audit.log import AuditLog
from streamer.config import FileConfig
from streamer.errors import AuditFault
from streamer.file import run_file
from tests.streamer.clips import Clip, make

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
WRITTEN = 6


class Clock:
    def __init__(self) -> None:
        self.seconds = 0

    def __call__(self) -> datetime:
        self.seconds += 1
        return START + timedelta(seconds=self.seconds)


def logged(folder: Path) -> AuditLog:
    audit = AuditLog(folder, Clock())
    for number in range(WRITTEN - 1):
        audit.record("identity worn", name=f"person {number}", consent_sha256="ab" * 32, label=bool(number % 2))
    return audit


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[AuditLog, bytes, bytes]:
    """A log, and the bytes of its two files."""
    audit = logged(tmp_path_factory.mktemp("audit"))
    return audit, audit.path.read_bytes(), (audit.folder / "audit.head").read_bytes()


def is_found(audit: AuditLog, lines: bytes, head: bytes) -> bool:
    audit.path.write_bytes(lines)
    (audit.folder / "audit.head").write_bytes(head)
    try:
        audit.read()
    except AuditFault:
        return True
    return False


def test_what_was_logged_can_be_read(whole: tuple[AuditLog, bytes, bytes]) -> None:
    audit, lines, head = whole
    assert not is_found(audit, lines, head)
    said = audit.read()
    assert [line["number"] for line in said] == list(range(1, WRITTEN + 1))
    assert said[0]["facts"] == {"public_key": local_key(audit.folder).public}
    assert said[3]["at"] == "2026-11-23T12:00:04.000+00:00"


@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_byte_that_is_changed_is_found(whole: tuple[AuditLog, bytes, bytes], data: st.DataObject) -> None:
    audit, lines, head = whole
    both = lines + head
    place = data.draw(st.integers(0, len(both) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != both[place]))
    changed = both[:place] + bytes([value]) + both[place + 1 :]
    assert is_found(audit, changed[: len(lines)], changed[len(lines) :])


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_lines_in_any_other_order_or_number_are_found(
    whole: tuple[AuditLog, bytes, bytes], data: st.DataObject
) -> None:
    audit, lines, head = whole
    split = lines.splitlines(keepends=True)
    other = data.draw(st.lists(st.sampled_from(split), max_size=WRITTEN + 2).filter(lambda other: other != split))
    assert is_found(audit, b"".join(other), head)


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_bytes_that_are_put_in_or_cut_off_are_found(whole: tuple[AuditLog, bytes, bytes], data: st.DataObject) -> None:
    audit, lines, head = whole
    begin = data.draw(st.integers(0, len(lines)))
    end = data.draw(st.integers(begin, len(lines)))
    changed = lines[:begin] + data.draw(st.binary(max_size=40)) + lines[end:]
    if changed != lines:
        assert is_found(audit, changed, head)


def test_a_chain_that_is_written_anew_by_another_key_is_found(
    whole: tuple[AuditLog, bytes, bytes], tmp_path: Path
) -> None:
    """The hashes fit; the signatures do not."""
    other = logged(tmp_path)
    audit, lines, head = whole
    assert is_found(audit, other.path.read_bytes(), (tmp_path / "audit.head").read_bytes())
    assert not is_found(audit, lines, head)


def test_genuine_lines_of_two_histories_do_not_fit_together(tmp_path: Path) -> None:
    """As after a backup: both logs are signed with the same key, and number their lines alike."""
    audit = logged(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    other = AuditLog(tmp_path / "two", Clock())
    for file in ("a.mp4", "b.mp4"):
        audit.record("export", file=file)
        other.record("export", file=file.upper())
    ours, theirs = (one.path.read_bytes().splitlines(keepends=True) for one in (audit, other))
    head = (audit.folder / "audit.head").read_bytes()
    assert is_found(audit, b"".join([*ours[:-2], theirs[-2], ours[-1]]), head)
    assert not is_found(audit, b"".join(ours), head)


def test_a_head_of_earlier_is_no_excuse_for_missing_lines(tmp_path: Path) -> None:
    """An earlier head is genuine: lines after it are allowed, as after a crash, and must be right all the same."""
    audit = logged(tmp_path)
    early = (tmp_path / "audit.head").read_bytes()
    audit.record("export", file="a.mp4")
    lines = audit.path.read_bytes()
    assert not is_found(audit, lines, early)
    assert is_found(audit, lines.replace(b"a.mp4", b"b.mp4"), early)


def test_a_log_goes_on_after_a_process_that_ended_in_the_middle(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = logged(tmp_path)
    head = (tmp_path / "audit.head").read_bytes()
    audit.record("export", file="a.mp4")
    (tmp_path / "audit.head").write_bytes(head)
    audit.record("export", file="b.mp4")
    with audit.path.open("ab") as lines:
        lines.write(b'{"at":"2026')
    audit.record("export", file="c.mp4")
    assert "half a line" in caplog.text
    files = [line["facts"] for line in audit.read() if line["event"] == "export"]
    assert files == [{"file": "a.mp4"}, {"file": "b.mp4"}, {"file": "c.mp4"}]


def test_a_log_that_was_cut_off_is_not_written_to(tmp_path: Path) -> None:
    audit = logged(tmp_path)
    audit.path.write_bytes(b"".join(audit.path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(AuditFault, match="cut off"):
        audit.record("export", file="a.mp4")
    audit.path.unlink()
    with pytest.raises(AuditFault, match="is missing"):
        audit.read()
    audit.path.write_bytes(b"x")
    (tmp_path / "audit.head").unlink()
    with pytest.raises(AuditFault, match="is missing"):
        audit.record("export", file="a.mp4")


def test_writers_at_the_same_time_do_not_break_the_chain(tmp_path: Path) -> None:
    local_key(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        for number in range(24):
            pool.submit(AuditLog(tmp_path).record, "session begun", call=number).add_done_callback(
                lambda done: done.result()
            )
    assert sorted(line["facts"]["call"] for line in AuditLog(tmp_path).read()[1:]) == list(range(24))  # type: ignore[index]


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VividError, match=r"file/key\.pem"):
        AuditLog(tmp_path / "file").record("export")


@pytest.mark.parametrize("fact", ["x" * 501, b"picture", ["list"]])
def test_only_words_and_numbers_are_facts(tmp_path: Path, fact: object) -> None:
    with pytest.raises(ValueError, match="fact"):
        AuditLog(tmp_path).record("export", picture=fact)  # type: ignore[arg-type]


def test_the_chain_is_what_its_description_says(tmp_path: Path) -> None:
    """Computed by hand, so that another program can check a log by the description alone."""
    key = local_key(tmp_path)
    line = next_line(key, Head(), "now", "export", {"file": "ü"})
    values = json.loads(line)
    assert values["previous"] == FIRST
    assert line == canonical(values) + b"\n"
    assert read_all([line], key.public, Head().after(line))[0][0]["facts"] == {"file": "ü"}


def test_the_command_says_which_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VIVIDSTREAM_RECORDS", str(tmp_path))
    run = CliRunner()
    assert "0 lines" in run.invoke(audit_group, ["verify"]).output
    audit = logged(tmp_path)
    assert f"{WRITTEN} lines, each as it was written" in run.invoke(audit_group, ["verify"]).output
    assert 'name="person 4"' in run.invoke(audit_group, ["show", "--last", "1"]).output
    audit.path.write_bytes(audit.path.read_bytes().replace(b"person 2", b"person 9"))
    fault = run.invoke(audit_group, ["verify"]).exception
    assert isinstance(fault, AuditFault)
    assert "line 4" in str(fault)
    os.remove(audit.path)
    os.remove(tmp_path / "audit.head")
    audit.record("identity withdrawn", origin="cd" * 32)
    assert "not listed as withdrawn" in str(run.invoke(audit_group, ["verify"]).exception)


@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_a_signature_of_another_line_does_not_fit(whole: tuple[AuditLog, bytes, bytes], data: st.DataObject) -> None:
    """Genuine signatures of the same key, of other lines or of the head: also where the line stays canonical."""
    audit, lines, head = whole
    values = [json.loads(line) for line in lines.splitlines()]
    one = data.draw(st.integers(0, WRITTEN - 1))
    genuine = [*(value["signature"] for value in values), json.loads(head)["signature"]]
    values[one]["signature"] = data.draw(st.sampled_from(genuine).filter(lambda sign: sign != genuine[one]))
    assert is_found(audit, b"".join(canonical(value) + b"\n" for value in values), head)


@given(count=st.integers(1, WRITTEN - 1))
@settings(max_examples=WRITTEN)
def test_last_lines_that_are_taken_off_are_found(whole: tuple[AuditLog, bytes, bytes], count: int) -> None:
    audit, lines, head = whole
    assert is_found(audit, b"".join(lines.splitlines(keepends=True)[:-count]), head)


@pytest.mark.parametrize("replaced", ["by another", "taken away"])
def test_a_key_that_was_replaced_is_found(tmp_path: Path, replaced: str) -> None:
    audit = logged(tmp_path / "one")
    logged(tmp_path / "two")
    for path in (tmp_path / "one").glob("key*"):
        path.unlink()
        if replaced == "by another":
            shutil.copy(tmp_path / "two" / path.name, path)
    with pytest.raises(AuditFault, match="another key"):
        audit.read()
    with pytest.raises(AuditFault, match="another key"):
        audit.record("export", file="a.mp4")


def test_a_log_that_was_put_back_with_its_head_is_found_by_what_was_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are genuine, of an earlier time: nothing in them can tell. A file that was written since can."""
    monkeypatch.setenv("VIVIDSTREAM_RECORDS", str(tmp_path / "records"))
    audit, run = logged(tmp_path / "records"), CliRunner()
    before = [path.read_bytes() for path in (audit.path, audit.folder / "audit.head")]
    plain, out = make(tmp_path / "plain.mp4", Clip(size_px=(160, 120), stamps=(0, 100, 200))), tmp_path / "out.mp4"
    run_file(FileConfig(input=plain, output=out, swap=SwapSettings(engine="passthrough")), io.StringIO())
    assert run.invoke(audit_group, ["verify", str(out)]).exit_code == 0
    assert "no whole credentials" in str(run.invoke(audit_group, ["verify", str(plain)]).exception)
    for path, data in zip((audit.path, audit.folder / "audit.head"), before):
        path.write_bytes(data)
    assert run.invoke(audit_group, ["verify"]).exit_code == 0, "by itself it looks whole"
    assert "the line of out.mp4 is not in it" in str(run.invoke(audit_group, ["verify", str(out)]).exception)
