"""`vividstream enroll` and `vividstream consent`: asked, written down, signed, shown, renewed, taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from engines import ConsentEnded, ConsentMissing, IdentityStore, UnsuitablePhoto, Watched
from streamer import cli, enroll
from streamer.audit.log import audit_log
from streamer.challenges import Challenges
from streamer.config import AgreementSettings, EnrollConfig
from streamer.consent import consent_group
from streamer.enroll import run_enroll
from streamer.options import ask_for_consent
from tests.streamer.clips import Clip, Sound, make

PHOTO = Path(__file__).parents[2] / "docs" / "personas" / "amara" / "front.jpg"
AGREED = AgreementSettings(who="Ada Jones", purpose="her calls", age="adult", how="written")
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VIVIDSTREAM_RECORDS", str(tmp_path / "records"))
    return tmp_path / "records"


def config(tmp_path: Path, agreement: AgreementSettings = AGREED, **values: object) -> EnrollConfig:
    facts = {"name": "ada", "images": (PHOTO,), "identities_dir": tmp_path / "people", "agreement": agreement, **values}
    return EnrollConfig.read(facts)


def consent(tmp_path: Path, *words: str) -> str:
    done = CliRunner().invoke(consent_group, [*words, "--identities-dir", str(tmp_path / "people")])
    if done.exception is not None:
        raise done.exception
    return done.output


def events(of: str) -> list[object]:
    return [line["facts"] for line in audit_log().read() if line["event"] == of]


def test_a_whole_life_of_a_consent(tmp_path: Path) -> None:
    run_enroll(config(tmp_path))
    store = IdentityStore(tmp_path / "people")
    manifest = store.load("ada").manifest
    assert manifest.agreement is not None
    assert (manifest.agreement.who, manifest.agreement.how, manifest.agreement.age) == ("Ada Jones", "written", "adult")
    (enrolled,) = events("identity enrolled")
    assert isinstance(enrolled, dict)
    assert enrolled["consent_sha256"] == manifest.consent_sha256
    assert "Ada Jones" not in str(enrolled)
    assert "may be worn" in consent(tmp_path, "show", "ada")

    until = (NOW + timedelta(days=5)).date().isoformat()
    consent(tmp_path, "renew", "ada", "--who", "Ada", "--purpose", "films", "--age", "adult", "--expires", until)
    assert f"for films; until {until}" in consent(tmp_path, "show", "ada")
    later = IdentityStore(tmp_path / "people", now=lambda: NOW + timedelta(days=7))
    with pytest.raises(ConsentEnded):
        later.load("ada")

    copy = store.directory / "ada.safetensors"
    data = copy.read_bytes()
    consent(tmp_path, "revoke", "ada", "--why", "asked by mail")
    assert not copy.exists()
    copy.write_bytes(data)
    with pytest.raises(ConsentEnded, match="withdrawn"):
        store.load("ada")
    assert "may not be worn" in consent(tmp_path, "show", "ada")
    assert len(events("identity renewed")) == len(events("identity withdrawn")) == 1


def test_the_photo_that_will_not_do_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By its file, which a person knows; not by its number."""
    grey = tmp_path / "holiday.png"
    Image.new("RGB", (200, 200), (128, 128, 128)).save(grey)
    for images in ((PHOTO, grey), (grey,)):
        with pytest.raises(UnsuitablePhoto, match=f"^{grey}: no face found"):
            run_enroll(config(tmp_path, images=images))
    stranger = PHOTO.parent.parent / "henrik" / "front.jpg"
    run_enroll(config(tmp_path, images=(PHOTO, stranger)))
    assert f"{stranger} may show another person than the others" in caplog.text


def test_who_has_ended_stays_in_the_list_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_enroll(config(tmp_path))
    path = tmp_path / "people" / "ada.safetensors"
    data = path.read_bytes()
    consent(tmp_path, "revoke", "ada")
    path.write_bytes(data)
    cli.vividstream.main(["identities", "--identities-dir", str(tmp_path / "people")], standalone_mode=False)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ada")]
    assert "not worn" in line


@pytest.mark.parametrize(
    ("agreement", "says"),
    [
        (AgreementSettings(), "who agreed"),
        (AgreementSettings(who="Ada"), "for what"),
        (AgreementSettings(who="Ada", purpose="calls"), "statement of age"),
        (AgreementSettings(who="Bo", purpose="a play", age="minor"), "guardian"),
        (AgreementSettings(who="Ada", purpose="calls", age="adult", how="clip"), "--clip"),
    ],
)
def test_without_consent_nobody_is_enrolled(tmp_path: Path, agreement: AgreementSettings, says: str) -> None:
    with pytest.raises(ConsentMissing, match=says):
        run_enroll(config(tmp_path, agreement))
    assert not (tmp_path / "people").exists()
    assert events("identity enrolled") == []


def test_at_a_terminal_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["Bo", "a school play", "minor", "Ada Jones"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.prompt", lambda question, type=None: next(answers))
    asked = ask_for_consent({"how": "spoken"})
    assert asked == {"how": "spoken", "who": "Bo", "purpose": "a school play", "age": "minor", "guardian": "Ada Jones"}


def test_what_was_asked_for_in_a_clip_is_good_once_and_for_half_an_hour() -> None:
    challenges = Challenges()
    first, second = challenges.make(NOW), challenges.make(NOW + timedelta(minutes=1))
    assert challenges.find(first.code.upper(), NOW + timedelta(minutes=29)) == first
    with pytest.raises(ConsentMissing, match="half hour"):
        challenges.find(first.code, NOW + timedelta(minutes=31))
    challenges.use_up(second.code)
    with pytest.raises(ConsentMissing):
        challenges.find(second.code, NOW + timedelta(minutes=2))


def test_a_clip_that_shows_it_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The eye is tested in tests/engines/test_liveness.py; here it says yes."""
    output = CliRunner().invoke(consent_group, ["phrase"]).output
    code = output.split("--challenge ")[1].strip()
    phrase = output.split('"')[1]
    seen: list[int] = []

    def watch(frames: object) -> Watched:
        seen.extend(1 for _ in frames)  # type: ignore[attr-defined]
        return Watched((), (), 0)

    monkeypatch.setattr(enroll, "watch_clip", watch)
    monkeypatch.setattr(enroll, "check_clip", lambda watched, challenge, photos: None)
    clip = make(tmp_path / "clip.mp4", Clip(sounds=(Sound(),)))
    run_enroll(config(tmp_path, clip=clip, challenge=code))
    agreement = IdentityStore(tmp_path / "people").load("ada").manifest.agreement
    assert agreement is not None
    assert (agreement.how, agreement.phrase, len(agreement.clip_sha256), len(seen)) == ("clip", phrase, 64, 20)
    with pytest.raises(ConsentMissing, match="half hour"):
        run_enroll(config(tmp_path, clip=clip, challenge=code, overwrite=True))


def test_a_clip_of_something_else_enrols_nobody(tmp_path: Path) -> None:
    code = Challenges().make(NOW).code
    with pytest.raises(ConsentMissing, match="--challenge"):
        run_enroll(config(tmp_path, clip=tmp_path / "clip.mp4"))
    clip = make(tmp_path / "clip.mp4", Clip(sounds=(Sound(),)))
    with pytest.raises(UnsuitablePhoto, match="too short"):
        run_enroll(config(tmp_path, clip=clip, challenge=code))
    with pytest.raises(UnsuitablePhoto, match="no sound"):
        run_enroll(config(tmp_path, clip=make(tmp_path / "silent.mp4", Clip()), challenge=code))
    with pytest.raises(UnsuitablePhoto, match="no such file"):
        run_enroll(config(tmp_path, clip=tmp_path / "nowhere.mp4", challenge=code))
    assert events("identity enrolled") == []
