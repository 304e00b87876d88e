"""Each check against the real thing that it looks for: a port in use, a full disk, a broken identity, a real coturn."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engines import IdentityStore
from streamer.doctor import browser, cameras, network, people, system
from streamer.doctor.checks import CHECKS, checks_for
from streamer.doctor.finding import Found, Verdict, fail
from streamer.doctor.settings import DoctorSettings
from tests.conftest import lacking

SECRET = "made up for this test"


def only(found: Iterator[Found]) -> Found:
    (one,) = found
    return one


def judged(found: Iterator[Found], verdict: Verdict) -> Found:
    """The one of that verdict."""
    (one,) = [each for each in found if each.verdict is verdict]
    return one


def test_what_is_not_ok_carries_a_command() -> None:
    with pytest.raises(ValueError, match="no command mends"):
        fail("something", "")


def test_every_command_looks_at_something_and_all_at_everything() -> None:
    assert checks_for("all") == CHECKS
    assert {check.name for check in checks_for("serve")} >= {"port", "relay", "https", "speed"}
    assert "cameras" not in {check.name for check in checks_for("serve")}
    assert {"cameras", "loopback", "pipewire"} <= {check.name for check in checks_for("camera")}


# Ports


def test_a_port_in_use_is_named_with_who_uses_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        found = only(network.port(DoctorSettings(port=number)))
    assert found.verdict is Verdict.FAIL
    assert f"port {number} is in use by " in found.says
    assert f"process {os.getpid()}" in found.says
    assert "vividstream serve --host 127.0.0.1 --port " in found.mend
    assert only(network.port(DoctorSettings(port=number))).verdict is Verdict.OK


def test_an_address_of_another_machine_is_no_place_to_listen() -> None:
    found = only(network.port(DoctorSettings(host="192.0.2.1")))
    assert found.verdict is Verdict.FAIL
    assert "192.0.2.1" in found.says


def test_udp_ports_that_are_taken_are_counted() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 0))
        number = other.getsockname()[1]
        taken = only(network.udp(DoctorSettings(udp_ports=f"{number}-{number}")))
    assert taken.verdict is Verdict.FAIL
    assert taken.says.startswith("0 of 1 ")
    assert only(network.udp(DoctorSettings(udp_ports=f"{number}-{number}"))).verdict is Verdict.OK
    assert only(network.udp(DoctorSettings())).verdict is Verdict.OK


# STUN and TURN


@pytest.fixture(scope="module")
def coturn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A real one on a free port of this machine."""
    path = shutil.which("turnserver")
    if path is None:
        lacking("turnserver")
    folder = tmp_path_factory.mktemp("coturn")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [
            path, "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={number}",
            "--use-auth-secret", f"--static-auth-secret={SECRET}", "--realm=doctor", "--no-tls", "--no-dtls",
            "--no-cli", "--allow-loopback-peers", "--log-file=stdout", f"--pidfile={folder}/pid",
            f"--userdb={folder}/db",
        ],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end_s = time.monotonic() + 20
    while time.monotonic() < end_s:
        if only(network.relay(DoctorSettings(ice_server=f"stun:127.0.0.1:{number}"))).verdict is Verdict.OK:
            break
    yield number
    process.terminate()
    process.wait()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_real_relay_is_asked_for_a_real_allocation(coturn: int, transport: str) -> None:
    server = f"turn:127.0.0.1:{coturn}?transport={transport}"
    found = only(network.relay(DoctorSettings(turn_server=server, turn_secret=SECRET)))
    assert found.verdict is Verdict.OK, found.says
    assert "relays by 127.0.0.1:" in found.says


def test_a_wrong_secret_is_told_from_a_dead_server(coturn: int) -> None:
    found = only(network.relay(DoctorSettings(turn_server=f"turn:127.0.0.1:{coturn}", turn_secret="another one")))
    assert found.verdict is Verdict.FAIL
    assert "refuses the credentials (401)" in found.says
    assert "static-auth-secret" in found.mend


def test_a_stun_server_says_where_this_machine_is(coturn: int) -> None:
    found = only(network.relay(DoctorSettings(ice_server=f"stun:127.0.0.1:{coturn}")))
    assert (found.verdict, found.facts["address"]) == (Verdict.OK, "127.0.0.1")


@pytest.mark.parametrize("server", ["turn:127.0.0.1:9", "turn:127.0.0.1:9?transport=tcp", "turn:no-such-host.invalid"])
def test_a_relay_that_is_not_there_fails_in_time(monkeypatch: pytest.MonkeyPatch, server: str) -> None:
    monkeypatch.setattr(network, "ANSWER_S", 1.0)
    began_s = time.monotonic()
    found = only(network.relay(DoctorSettings(turn_server=server, turn_secret=SECRET)))
    assert found.verdict is Verdict.FAIL
    assert time.monotonic() - began_s < network.ANSWER_S + 3


def test_a_relay_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "ANSWER_S", 0.5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        number = silent.getsockname()[1]
        for config in (
            DoctorSettings(ice_server=f"stun:127.0.0.1:{number}"),
            DoctorSettings(turn_server=f"turn:127.0.0.1:{number}", turn_secret=SECRET),
        ):
            found = only(network.relay(config))
            assert found.verdict is Verdict.FAIL
            assert "did not answer" in found.says
            assert found.mend == f"nc -vzu 127.0.0.1 {number}"


@pytest.mark.parametrize(
    "server", ["turn:", "http://a", "turn:h:0", "turn:h:70000", "turn:h:1?transport=sctp", "turn:h h"]
)
def test_what_is_no_address_is_said_to_be_none(server: str) -> None:
    found = only(network.relay(DoctorSettings(turn_server=server, turn_secret=SECRET)))
    assert "is no address of a STUN or TURN server" in found.says


# https


@contextmanager
def certificate(
    folder: Path, days_from: int, days_to: int, issuer: str = "somebody else"
) -> Iterator[tuple[Path, Path]]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    made = (
        x509.CertificateBuilder(name(issuer), name("server"), key.public_key(), x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days_from))
        .not_valid_after(now + timedelta(days=days_to))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("face.example")]), critical=False)
        .sign(key, SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    yield paths


@pytest.mark.parametrize(
    ("days_from", "days_to", "issuer", "verdict", "says"),
    [
        (-1, 90, "somebody else", Verdict.OK, "face.example"),
        (-1, 90, "server", Verdict.WARN, "signed by itself"),
        (-90, -1, "somebody else", Verdict.FAIL, "the certificate ended"),
        (1, 90, "somebody else", Verdict.FAIL, "begins only"),
        (-80, 5, "somebody else", Verdict.WARN, "ends soon"),
    ],
)
def test_a_certificate_is_judged(
    tmp_path: Path, days_from: int, days_to: int, issuer: str, verdict: Verdict, says: str
) -> None:
    with certificate(tmp_path, days_from, days_to, issuer) as (pem, key):
        found = only(network.certificate(DoctorSettings(certificate=pem, key=key)))
    assert (found.verdict, says in found.says) == (verdict, True), found.says


def test_a_certificate_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate", encoding="utf-8")
    for config in (
        DoctorSettings(certificate=broken),
        DoctorSettings(certificate=tmp_path / "missing.pem"),
        DoctorSettings(key=broken),
    ):
        found = only(network.certificate(config))
        assert found.verdict is Verdict.FAIL
        assert "\n" not in found.says


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "face.example"])
def test_the_command_that_makes_a_certificate_makes_one(tmp_path: Path, host: str) -> None:
    told = only(network.certificate(DoctorSettings(host=host)))
    assert told.verdict is Verdict.WARN
    subprocess.run(told.mend, shell=True, cwd=tmp_path, check=True, capture_output=True)
    made = DoctorSettings(host=host, certificate=tmp_path / "certificate.pem", key=tmp_path / "key.pem")
    assert "signed by itself" in only(network.certificate(made)).says


# Disk, identities, engines


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte, which is full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a small disk can only be mounted by root")
    (folder / "filler").write_bytes(bytes(1 << 20))
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_found_before_somebody_loses_an_identity(small_disk: Path) -> None:
    found = [one for one in system.disk(DoctorSettings(identities_dir=small_disk)) if one.verdict is Verdict.FAIL]
    assert [one.says.split(" (")[0] for one in found] == [f"identities: the disk of {small_disk} is full"]
    assert "filler" in subprocess.run(found[0].mend, shell=True, capture_output=True, text=True, check=False).stdout
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler"]  # nothing of ours is left


def test_a_folder_that_nobody_may_write_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVIDSTREAM_RECORDS", "/proc/sys")
    found = judged(system.disk(DoctorSettings(identities_dir=tmp_path)), Verdict.FAIL)
    assert "keys and logs: /proc/sys cannot be written to" in found.says


def test_what_makes_a_folder_writable_touches_nothing_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is not there was mended by giving away the first one above it that is: `chown -R $USER /`."""
    monkeypatch.setenv("VIVIDSTREAM_RECORDS", "/proc/sys/none/records")
    found = judged(system.disk(DoctorSettings(identities_dir=tmp_path)), Verdict.FAIL)
    assert found.mend == "sudo install -d -o $USER /proc/sys/none/records"
    monkeypatch.delenv("VIVIDSTREAM_RECORDS")
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    mends = {one.mend for one in system.disk(DoctorSettings(identities_dir=tmp_path)) if one.verdict is Verdict.FAIL}
    assert mends == {'mkdir -p "/var/tmp/home-$USER" && export HOME="/var/tmp/home-$USER"'}
    key = next(one for one in people.identities(DoctorSettings()) if one.verdict is Verdict.FAIL)
    assert (key.says.split(":")[0], key.mend) == ("the installation's key", "vividstream doctor --only disk")


def test_a_damaged_identity_is_named_and_can_be_made_anew(tmp_path: Path) -> None:
    (tmp_path / "anna.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0 not an identity")
    (tmp_path / "bert.safetensors").write_bytes(b"")
    found = list(people.identities(DoctorSettings(identities_dir=tmp_path)))
    failed = {one.says.split()[0]: one for one in found if one.verdict is Verdict.FAIL}
    assert failed.keys() == {"anna", "bert"}
    mend = f"vividstream enroll anna --image PHOTO.jpg --overwrite --identities-dir {tmp_path}"
    assert failed["anna"].mend == mend
    assert found[-1].verdict is Verdict.OK  # those that are built in


def test_a_broken_key_of_the_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVIDSTREAM_RECORDS", str(tmp_path / "records"))
    (tmp_path / "records").mkdir()
    assert not [one for one in people.identities(DoctorSettings()) if one.verdict is not Verdict.OK]
    (key,) = (tmp_path / "records").glob("*.pem")
    key.write_text("no key", encoding="utf-8")
    found = judged(people.identities(DoctorSettings()), Verdict.FAIL)
    assert "the installation's key" in found.says
    subprocess.run(found.mend, shell=True, check=True)
    assert not [one for one in people.identities(DoctorSettings()) if one.verdict is not Verdict.OK]


def test_an_engine_that_is_broken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVIDSTREAM_ENGINES_STORE", str(tmp_path))
    assert "no learned engine is built" in only(people.engine_store(DoctorSettings())).says
    (tmp_path / ("0123456789abcdef" * 4)).mkdir()
    found = only(people.engine_store(DoctorSettings()))
    assert (found.verdict, found.mend) == (Verdict.FAIL, "vividstream engines prune")
    assert "`" not in found.says


# Libraries and devices


def test_the_libraries_of_this_installation_are_those_that_were_tried() -> None:
    assert [one.verdict for one in system.libraries(DoctorSettings())] == [Verdict.OK]
    assert [one.verdict for one in system.codecs(DoctorSettings())] == [Verdict.OK]
    assert [one.verdict for one in system.python(DoctorSettings())] == [Verdict.OK]


@pytest.mark.parametrize(
    ("found", "rule", "holds"),
    [
        ("1.16.0", "==1.16.0", True),
        ("1.16.1", "==1.16.0", False),
        ("3.14.5", "<4,>=3.14.5", True),
        ("4.0", "<4,>=3.14.5", False),
        ("4", ">=4.0", True),
        ("2.0.0rc1", "<2,>=1.26.4", False),
        ("0.5.4", "<0.6", True),
        ("1.2", "!=1.2", False),
        ("1.10", ">1.9", True),
        ("1", "", True),
    ],
)
def test_versions_are_compared_as_numbers(found: str, rule: str, holds: bool) -> None:
    assert system.fits(found, rule) == holds


def test_both_onnxruntimes_at_once_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "installed", {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}.get)
    found = only(system.runtimes(DoctorSettings()))
    assert (found.verdict, "uninstall -y onnxruntime onnxruntime-gpu" in found.mend) == (Verdict.FAIL, True)


@pytest.mark.skipif(sys.platform != "linux" or bool(cameras.nodes()), reason="for a machine without cameras")
def test_no_camera_and_no_module() -> None:
    assert "no camera: connect one" in only(cameras.cameras(DoctorSettings())).says
    found = only(cameras.loopback(DoctorSettings()))
    assert found.verdict is Verdict.FAIL
    assert "modprobe v4l2loopback" in found.mend
    assert "exclusive_caps=1" in found.mend


def test_without_the_extra_there_is_no_camera_on_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyvirtualcam.py").write_text("raise ImportError('hidden')\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = only(cameras.foreign(DoctorSettings()))
    assert (found.verdict, found.mend) == (Verdict.FAIL, 'pip install "vividstream[virtualcam]"')


@pytest.mark.browser
def test_chromium_says_which_cameras_it_lists(chromium: str) -> None:
    flags = ("--use-fake-device-for-media-stream=device-count=2",)
    assert browser.ask(chromium, *flags) == ["fake_device_0", "fake_device_1"]
    assert browser.ask(chromium) == []


def test_the_speed_is_measured_and_the_engine_named() -> None:
    found = only(people.bench(DoctorSettings(bench_s=0.3)))
    assert found.facts["engine"] == "proxy"
    assert found.facts["drawn"] == found.facts["frames"] > 0
    assert found.says.startswith("proxy: ")


def test_identities_are_those_of_the_folder() -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = only(people.identities(DoctorSettings(identities_dir=Path(folder))))
    assert found.facts["names"] == list(IdentityStore(None).built_in())


def test_a_camera_on_the_bus_that_no_driver_took_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in (("1-2:1.0", "0e"), ("1-2:1.1", "0e"), ("1-3:1.0", "03")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bInterfaceClass").write_text(f"{kind}\n", encoding="ascii")
    for name, product in (("1-2", "HD Pro Webcam"), ("1-3", "a mouse")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "product").write_text(f"{product}\n", encoding="utf-8")
    monkeypatch.setattr(cameras, "USB", tmp_path)
    monkeypatch.setattr(cameras, "DEVICES", tmp_path)
    found = only(cameras.cameras(DoctorSettings()))
    assert found.verdict is Verdict.FAIL
    assert found.says.startswith("HD Pro Webcam is connected by USB")
    assert "uvcvideo" in found.mend
    monkeypatch.setattr(cameras, "USB", tmp_path / "none")
    assert only(cameras.cameras(DoctorSettings())).mend == "vividstream doctor --only cameras"


def test_a_module_that_was_not_built_for_this_kernel_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamer.v4l2 import devices

    monkeypatch.setattr(devices, "MODULE", tmp_path / "not loaded")
    monkeypatch.setattr(cameras, "SOURCES", tmp_path)
    assert "sudo apt install v4l2loopback-dkms" in only(cameras.loopback(DoctorSettings())).mend
    (tmp_path / "v4l2loopback-0.12.7").mkdir()
    found = only(cameras.loopback(DoctorSettings()))
    assert os.uname().release in found.says
    assert "sudo dkms autoinstall" in found.mend
