"""Who may ring by webhook."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest

from controller.checkout.hooks import SIGNED, Webhook
from controller.errors import Refused

BODY = b'{"ref": "refs/heads/main"}'


@pytest.fixture
def webhook(tmp_path: Path) -> Webhook:
    made = Webhook(tmp_path / "webhook.secret")
    made.ensure()
    return made


def sign(webhook: Webhook, body: bytes = BODY) -> str:
    return hmac.new(webhook.file.read_bytes().strip(), body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("header", SIGNED)
@pytest.mark.parametrize("before", ["", "sha256="])
def test_a_call_that_is_signed_with_the_secret_is_let_in(webhook: Webhook, header: str, before: str) -> None:
    assert webhook.verify({header: before + sign(webhook)}, BODY) is True


def test_gitlab_sends_the_secret_itself(webhook: Webhook) -> None:
    assert webhook.verify({"x-gitlab-token": webhook.file.read_text().strip()}, BODY) is True
    assert webhook.verify({"x-gitlab-token": "guess"}, BODY) is False


@pytest.mark.parametrize("given", ["", "sha256=", "0" * 64, "sha1=" + "0" * 40, "ü"])
def test_a_wrong_signature_is_refused(webhook: Webhook, given: str) -> None:
    assert webhook.verify({"x-hub-signature-256": given}, BODY) is False


def test_a_signature_counts_for_its_body_alone(webhook: Webhook) -> None:
    assert webhook.verify({"x-hub-signature-256": f"sha256={sign(webhook)}"}, BODY + b" ") is False


def test_every_signature_of_a_call_has_to_be_right(webhook: Webhook) -> None:
    headers = {"x-hub-signature-256": f"sha256={sign(webhook)}", "x-gitea-signature": "0" * 64}
    assert webhook.verify(headers, BODY) is False


def test_a_call_without_a_signature_is_told_apart(webhook: Webhook) -> None:
    assert webhook.verify({"content-type": "application/json"}, BODY) is False


def test_the_secret_is_random_closed_to_others_and_made_once(webhook: Webhook, tmp_path: Path) -> None:
    first = webhook.file.read_text()
    webhook.ensure()
    assert webhook.file.read_text() == first
    assert len(first.strip()) >= 40
    assert webhook.file.stat().st_mode & 0o777 == 0o600


def test_an_empty_or_missing_secret_lets_nobody_in(webhook: Webhook) -> None:
    webhook.file.write_text("\n")
    with pytest.raises(Refused, match="is empty"):
        webhook.verify({"x-gitlab-token": ""}, BODY)
    webhook.file.unlink()
    with pytest.raises(Refused, match="cannot be read"):
        webhook.verify({"x-gitlab-token": ""}, BODY)
