"""Texts with what must be found in each, the awkward ones included. Keys are made here, of no account anywhere."""

from __future__ import annotations

import base64
import json
import random
import string
import uuid
from dataclasses import dataclass

_RANDOM = random.Random(20)
_ALNUM = string.ascii_letters + string.digits
_UPPER = string.ascii_uppercase + string.digits
_URL = f"{_ALNUM}_-"
_HEX = "0123456789abcdef"


@dataclass(frozen=True)
class Case:
    """One text."""

    name: str
    text: str
    found: str = ""
    """The part that must be found; empty where nothing must be."""


def _of(letters: str, length: int) -> str:
    return "".join(_RANDOM.choices(letters, k=length))


def _jwt() -> str:
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": "4711", "name": "A. Person", "iat": 1516239022})
    head = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*head, _of(_URL, 43)])


def _private_key() -> str:
    body = "\n".join(_of(f"{_ALNUM}+/", 64) for _ in range(12))
    return f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"


KEYS = {
    "openai": f"sk-proj-{_of(_URL, 74)}T3BlbkFJ{_of(_URL, 74)}",
    "openai, old": f"sk-{_of(_ALNUM, 20)}T3BlbkFJ{_of(_ALNUM, 20)}",
    "anthropic": f"sk-ant-api03-{_of(_URL, 93)}AA",
    "github": f"ghp_{_of(_ALNUM, 36)}",
    "github, fine-grained": f"github_pat_{_of(_ALNUM, 22)}_{_of(_ALNUM, 59)}",
    "gitlab": f"glpat-{_of(_URL, 20)}",
    "aws": f"AKIA{_of('ABCDEFGHIJKLMNOPQRSTUVWXYZ234567', 16)}",
    "google": f"AIza{_of(_URL, 35)}",
    "slack": f"xoxb-{_of(string.digits, 12)}-{_of(string.digits, 12)}-{_of(_ALNUM, 24)}",
    "stripe": f"sk_live_{_of(_ALNUM, 24)}",
    "sendgrid": f"SG.{_of(_URL, 22)}.{_of(_URL, 43)}",
    "hugging face": f"hf_{_of(string.ascii_letters, 34)}",
    "twilio": f"SK{_of(_HEX, 32)}",
    "npm": f"npm_{_of(_ALNUM, 36)}",
    "telegram": f"{_of('123456789', 10)}:AA{_of(_URL, 33)}",
    "digitalocean": f"dop_v1_{_of(_HEX, 64)}",
    "private key": _private_key(),
    "jwt": _jwt(),
}
_PASSWORD = _of(_ALNUM, 22)

SECRETS = [
    *(Case(name, f"The key for the service is {key} and it works.", key) for name, key in KEYS.items()),
    Case("in JSON", json.dumps({"headers": {"Authorization": f"Bearer {KEYS['openai']}"}}), KEYS["openai"]),
    Case("in a URL", f"GET https://example.com/v1?key={KEYS['google']}&q=x", KEYS["google"]),
    Case("a password in a URL", f"postgresql://app:{_PASSWORD}@db.example.com:5432/app", _PASSWORD),
    Case("assigned", f'DB_PASSWORD = "{_PASSWORD}"', _PASSWORD),
    Case("a secret of AWS", f"aws_secret_access_key = {_of(_ALNUM + '/+', 40)}", ""),
    Case("on a line of its own", f"first line\n{KEYS['github']}\nlast line", KEYS["github"]),
    Case("beside umlauts", f"Schlüssel für Zoë: {KEYS['stripe']} — geheim", KEYS["stripe"]),
]
_AWS = next(case for case in SECRETS if case.name == "a secret of AWS")
SECRETS[SECRETS.index(_AWS)] = Case(_AWS.name, _AWS.text, _AWS.text.rpartition(" ")[2])

NO_SECRETS = [
    Case("a git hash", f"fixed in commit {_of(_HEX, 40)} on main"),
    Case("a short git hash", f"see {_of(_HEX, 7)}..{_of(_HEX, 12)}"),
    Case("a uuid", f"request {uuid.UUID(int=_RANDOM.getrandbits(128), version=4)} took 12 ms"),
    Case("a checksum", f"sha256:{_of(_HEX, 64)}  image.tar"),
    Case("an md5", f"{_of(_HEX, 32)}  file.zip"),
    Case("an integrity", f"sha512-{base64.b64encode(_RANDOM.randbytes(64)).decode()}"),
    Case("an image", f"data:image/png;base64,iVBORw0KGgo{base64.b64encode(_RANDOM.randbytes(300)).decode()}"),
    Case("an ssh public key", f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{_of(_ALNUM, 43)} me@host"),
    Case("a placeholder", "export OPENAI_API_KEY=sk-..."),
    Case("a placeholder in words", "set api_key to YOUR_API_KEY_HERE"),
    Case("a variable", 'client = Client(api_key=os.environ["OPENAI_API_KEY"])'),
    Case("a template", "password: ${DB_PASSWORD}"),
    Case("prose", "The password must have twelve characters, and the token is sent in a header."),
    Case("a long name", "AbstractSingletonProxyFactoryBeanConfigurationPropertiesCustomizer"),
    Case("a path", "/usr/lib/python3/dist-packages/cryptography/hazmat/bindings/_rust.abi3.so"),
    Case("an id of a passage", "asyncio.Semaphore.acquire#2 and library/asyncio-sync.html"),
    Case("a trace id", f"traceparent: 00-{_of(_HEX, 32)}-{_of(_HEX, 16)}-01"),
    Case("a number", f"total: {_of('123456789', 18)}"),
    Case("a doi", "https://doi.org/10.1145/3292500.3330701"),
    Case("a video", "https://www.youtube.com/watch?v=dQw4w9WgXcQ"),
    Case("words with hyphens", "task-oriented risk-based desk-research-on-everything-that-matters"),
]

PERSONAL = [
    Case("email", "write to jane.doe+news@example.co.uk, please", "jane.doe+news@example.co.uk"),
    Case("email in brackets", "Jane <jane@example.com>", "jane@example.com"),
    Case("email, international", "mail an zoë@bücher.example heute", "zoë@bücher.example"),
    Case("IBAN", "IBAN DE89 3704 0044 0532 0130 00 at the bank", "DE89 3704 0044 0532 0130 00"),
    Case("IBAN, close", "pay to GB82WEST12345698765432 today", "GB82WEST12345698765432"),
    Case("IBAN, Norway", "konto NO93 8601 1117 947", "NO93 8601 1117 947"),
    Case("IBAN, small letters", "iban fr14 2004 1010 0505 0001 3m02 606", "fr14 2004 1010 0505 0001 3m02 606"),
    Case("Visa", "card 4111 1111 1111 1111 exp 12/30", "4111 1111 1111 1111"),
    Case("Mastercard", "5555-5555-5555-4444", "5555-5555-5555-4444"),
    Case("American Express", "amex: 378282246310005.", "378282246310005"),
    Case("card in JSON", '{"card":"6011111111111117","cvc":"123"}', "6011111111111117"),
    Case("phone, international", "call +49 30 901820 now", "+49 30 901820"),
    Case("phone, US", "ring (415) 555-2671 tomorrow", "(415) 555-2671"),
    Case("phone, UK", "mobile: +44 7400 123456", "+44 7400 123456"),
    Case("phone, India", "WhatsApp +91-98765-43210", "+91-98765-43210"),
    Case("phone, close", "tel:+33142685300", "+33142685300"),
    Case("social security number", "SSN 536-90-4399 on file", "536-90-4399"),
    Case("ip address", "seen from 84.17.52.113 at noon", "84.17.52.113"),
]

NOT_PERSONAL = [
    Case("not by Luhn", "order 4111 1111 1111 1112 shipped"),
    Case("an order number", "order no. 1234567890123 of 2024"),
    Case("zeros", "0000 0000 0000 0000"),
    Case("an IBAN with a wrong sum", "DE89 3704 0044 0532 0130 01"),
    Case("a date", "between 2024-01-31 and 2025-12-01"),
    Case("a time", "2024-01-31T12:30:45.123456+02:00"),
    Case("unix seconds", "at 1735689600 the run began"),
    Case("a version", "python 3.11.4, torch 2.1.0"),
    Case("a version of four parts", "build v1.2.3.4 of the driver"),
    Case("a decorator", "@pytest.fixture def f(): ..."),
    Case("a handle", "follow @crew_guard or user@localhost"),
    Case("git over ssh", "git clone git@github.com:owner/name.git"),
    Case("an ISBN", "ISBN 978-3-16-148410-0"),
    Case("a sum of money", "it cost 1.234.567,89 EUR and 9,999,999 more"),
    Case("a git hash", f"commit {_of(_HEX, 40)}"),
    Case("a hash of digits", f"md5 {_of(string.digits, 32)}"),
    Case("coordinates", "at 52.520008, 13.404954"),
    Case("a mask", "netmask 255.255.255.0, and 127.0.0.1 is this machine"),
    Case("a fraction", "pi is 3.14159265358979323846"),
    Case("a range", "pages 1200-1300, lines 100-200-300"),
    Case("no social security number", "part 000-12-3456 and 987-65-4320"),
    Case("a uuid", "123e4567-e89b-12d3-a456-426614174000"),
]
