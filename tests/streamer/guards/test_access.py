"""Tokens, origins, and who asks behind a proxy."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from engines import SettingError
from streamer.config import GuardSettings, ServerConfig
from streamer.guards.access import Claim, address_of, holder_of, keys_of, read_keys
from streamer.guards.gate import Admitted, Gate
from streamer.guards.limits import Refused

TOKEN, ANNAS, BOBS = "a-token-of-some-length", "annas-secret-word-1", "bobs-secret-word-22"


def claim(**what: Any) -> Claim:
    usual: dict[str, Any] = {
        "method": "GET", "scheme": "http", "host": "127.0.0.1:8080", "origin": None, "site": None, "tokens": (),
    }  # fmt: skip
    return Claim(**{**usual, **what})


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    digest = sha256(BOBS.encode()).hexdigest()
    path.write_text(f"# who may call\nanna {ANNAS} 2\n\nbob sha256:{digest}\n", encoding="utf-8")
    return path


def test_every_token_of_the_file_lets_in_and_is_known_by_name(token_file: Path) -> None:
    config = ServerConfig(token=TOKEN, guard=GuardSettings(token_file=token_file))
    keys = keys_of(config)
    for token, holder, calls in ((TOKEN, "page", None), (ANNAS, "anna", 2), (BOBS, "bob", None)):
        found = holder_of(keys, ("wrong", token))
        assert found is not None
        assert (found[0].holder, found[0].calls, found[1]) == (holder, calls, token)
    assert holder_of(keys, ("", "wrong", TOKEN + "x", "x" * 10_000)) is None
    assert all(secret.encode() not in repr(keys).encode() for secret in (TOKEN, ANNAS, BOBS))
    gate = Gate(config)
    admitted = gate.admit(claim(tokens=(ANNAS,)), 0.0)
    assert isinstance(admitted, Admitted)
    assert (admitted.holder, admitted.token) == ("anna", ANNAS)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "0 tokens"),
        ("anna short\n", "16 characters"),
        ("anna\n", "not `NAME SECRET`"),
        (f"anna {ANNAS} many\n", "not `NAME SECRET`"),
        (f"anna {ANNAS} 0\n", "not `NAME SECRET`"),
        ("anna sha256:abc\n", "64 hex digits"),
        (f"anna {ANNAS}\nanna {BOBS}\n", "twice"),
    ],
)
def test_an_unusable_token_file_is_an_error_that_never_shows_a_secret(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError, match=sentence) as caught:
        read_keys(path)
    assert ANNAS not in str(caught.value)
    with pytest.raises(SettingError, match="cannot be read"):
        read_keys(tmp_path / "nothing")


def test_wrong_tokens_are_slowed_down_and_right_ones_of_others_are_not() -> None:
    gate = Gate(ServerConfig(host="0.0.0.0", token=TOKEN))
    statuses = []
    for number in range(20):
        answer = gate.admit(claim(tokens=(f"guess-{number}",), address="9.9.9.9"), 0.0)
        assert isinstance(answer, Refused)
        statuses.append(answer.status)
    assert statuses == [401] * 10 + [429] * 10
    assert isinstance(gate.admit(claim(tokens=(TOKEN,), address="9.9.9.9"), 1.0), Refused), "also the right one waits"
    assert isinstance(gate.admit(claim(tokens=(TOKEN,), address="9.9.9.9"), 10.1), Admitted)
    assert isinstance(gate.admit(claim(tokens=(TOKEN,), address="8.8.8.8"), 0.0), Admitted)
    assert gate.limits.refused == {"token": 10, "wrong_tokens": 11}


def test_cors_names_only_origins_of_the_list() -> None:
    config = ServerConfig(host="0.0.0.0", token=TOKEN, origin=("https://my.example", "https://two.example"))
    gate = Gate(config)
    for origin in config.origin:
        asked = claim(method="OPTIONS", origin=origin)
        assert isinstance(gate.admit(asked, 0.0), Admitted), "a preflight carries no token"
        headers = gate.preflight(asked, ("POST", "PATCH", "DELETE"))
        assert headers["Access-Control-Allow-Origin"] == origin
        assert headers["Access-Control-Allow-Methods"] == "POST, PATCH, DELETE"
        assert "Authorization" in headers["Access-Control-Allow-Headers"]
        assert "Location" in gate.cors(asked)["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in headers
    for origin in ("https://evil.example", "https://my.example.evil.example", "null", "http://my.example", ""):
        foreign = claim(method="OPTIONS", origin=origin)
        refused = gate.admit(foreign, 0.0)
        assert isinstance(refused, Refused)
        assert refused.status == 403
        assert "Access-Control-Allow-Origin" not in gate.preflight(foreign, ("POST",))
    assert isinstance(gate.admit(claim(method="POST", origin="https://my.example"), 0.0), Refused), "no token"


def test_only_a_declared_proxy_is_believed() -> None:
    forged = claim(address="9.9.9.9", forwarded_for=("1.1.1.1",))
    assert address_of(ServerConfig(), forged) == "9.9.9.9"
    behind = ServerConfig(guard=GuardSettings(proxies=("10.0.0.0/8", "127.0.0.1")))
    honest = claim(address="127.0.0.1", forwarded_for=("6.6.6.6", "8.8.8.8", "10.0.0.7"))
    assert address_of(behind, honest) == "8.8.8.8", "what stands before the nearest foreign address may be made up"
    assert address_of(behind, forged) == "9.9.9.9"
    assert address_of(behind, claim(address="127.0.0.1")) == "127.0.0.1"


def test_who_comes_through_an_undeclared_proxy_may_not_name_addresses_behind_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate(ServerConfig())
    here = gate.admit(claim(), 0.0)
    proxied = gate.admit(claim(forwarded_for=("8.8.8.8",)), 0.0)
    assert isinstance(here, Admitted)
    assert isinstance(proxied, Admitted)
    assert gate.policy_for(here).candidate("127.0.0.1", 5_000) is None
    assert gate.policy_for(proxied).candidate("127.0.0.1", 5_000) == "loopback"
    assert caplog.text.count("--proxies") == 1


def test_a_proxy_that_is_no_address_is_a_setting_error() -> None:
    with pytest.raises(SettingError, match="proxies"):
        GuardSettings.read({"proxies": ("my-proxy",)})
