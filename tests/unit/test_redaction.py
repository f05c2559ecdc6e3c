"""No secret stays in a redacted record, and little else goes."""

import base64
import json
import random
import string
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopotel_prom import ltf
from loopotel_prom.archive.lines import Line
from loopotel_prom.errors import ConfigError, DocumentError
from loopotel_prom.exporter.loopnet import (
    RecordOptions,
    record_from_line,
    record_from_trace,
)

pytest.importorskip("detect_secrets")

from loopotel_prom.exporter.redaction import MARK, Removed, Scanner, redacted
from loopotel_prom.exporter.redaction.names import is_secret

FULL: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "specs/examples/full.good.json").read_bytes()
)
BASIC = RecordOptions(objective="repair the code at hand", redact="basic")
WHOLE = RecordOptions(objective="repair the code at hand", redact="full")
GOAL = ("--source", "production_redacted", "--goal", "repair the code")
ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
# Of 603 texts without a secret so many are changed all the same.
MOST_FALSE = 30


class Planted(NamedTuple):
    """A text with a secret in it, and what of it must not be seen again."""

    kind: str
    text: str
    secret: str


class _Maker:
    """Makes secrets by chance, always the same: none of them stands in a file."""

    def __init__(self) -> None:
        self._random = random.Random(20260302)

    def of(self, length: int, alphabet: str = ALNUM) -> str:
        return "".join(self._random.choice(alphabet) for _ in range(length))

    def word(self) -> str:
        return self._random.choice(("hunter", "sunshine", "Tr0ub4dor", "monkey"))

    def jwt(self) -> str:
        head, body = (
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
            for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": self.of(9)})
        )
        return f"{head}.{body}.{self.of(43, ALNUM + '-_')}"


def _shaped(make: _Maker) -> Iterator[tuple[str, str]]:
    """Give keys that can be told by themselves."""
    upper = string.ascii_uppercase + string.digits
    yield "aws key id", "AKIA" + make.of(16, upper)
    yield "aws secret", make.of(40, ALNUM)
    yield "github", make.of(0) + "gh" + "p_" + make.of(36)
    yield "github fine", "github" + "_pat_" + make.of(22) + "_" + make.of(59)
    yield "gitlab", "gl" + "pat-" + make.of(20, ALNUM + "_")
    yield "openai", "s" + "k-proj-" + make.of(48, ALNUM)
    yield "anthropic", "s" + "k-ant-api03-" + make.of(86, ALNUM + "-_") + "AA"
    yield "hugging face", "h" + "f_" + make.of(34)
    yield "google", "AI" + "za" + make.of(35, ALNUM + "-_")
    yield "slack", "xo" + "xb-" + make.of(12, string.digits) + "-" + make.of(24)
    yield "stripe", "s" + "k_live_" + make.of(24)
    yield "sendgrid", "S" + "G." + make.of(22) + "." + make.of(43)
    yield "jwt", make.jwt()
    yield "npm", "np" + "m_" + make.of(36)
    yield "pypi", "py" + "pi-AgEIcHlwaS5vcmc" + make.of(80)
    yield "twilio", "S" + "K" + make.of(32, HEX)
    yield "telegram", make.of(10, "123456789") + ":" + make.of(35)
    yield "discord", "M" + make.of(25) + "." + make.of(6) + "." + make.of(27)
    yield "mailchimp", make.of(32, HEX) + "-us12"
    yield "databricks", "dap" + "i" + make.of(32, HEX)
    yield "vault", "hv" + "s." + make.of(24)
    yield "hex", make.of(64, HEX)
    yield "base64", make.of(44, ALNUM)
    yield "langsmith", "lsv2" + "_pt_" + make.of(32, HEX) + "_" + make.of(10, HEX)
    lines = "\n".join(make.of(64) for _ in range(4))
    kind = make._random.choice(("RSA ", "EC ", "OPENSSH ", ""))
    block = f"{kind}PRIVATE KEY-----"
    yield "private key", f"-----BEGIN {block}\n{lines}\n-----END {block}"


def _said(make: _Maker) -> Iterator[tuple[str, str, str]]:
    """Give secrets that only their surroundings tell; with them."""
    words = f"{make.word()}{make.of(2, string.digits)}"
    yield "assigned", f"DB_PASSWORD={words}", words
    yield "quoted", f'config.api_key = "{words} {words}"', words
    yield "yaml", f"  password: {words}!x", words
    yield "json", json.dumps({"auth": {"client_secret": words}}), words
    yield "json in json", json.dumps(json.dumps({"passwd": f'{words}"q'})), words
    yield "sentence", f"The password for staging is {words}, keep it.", words
    yield "flag", f"run tool --token {words} --verbose", words
    mixed = make.of(22)
    yield "bearer", f"curl -H 'Authorization: Bearer {mixed}' https://x.test", mixed
    basic = base64.b64encode(f"joe:{words}".encode()).decode()
    yield "basic", f"use Basic {basic} there", basic
    yield "url", f"postgres://app:{words}@db.internal:5432/runs", words
    yield "url query", f"https://x.test/hook?access_token={words}&a=1", words
    yield "curl user", f"curl -u deploy:{words} https://x.test", words
    yield "cookie", f"Cookie: theme=dark; sid={words}", words
    azure = make.of(86) + "=="
    yield "azure", f"AccountName=a;AccountKey={azure};Suffix=x", azure
    yield "passphrase", f"passphrase: correct horse {words} battery", words
    yield "url-encoded", quote(f"password={words}&x", safe=""), words
    wrapped = base64.b64encode(f"password={words}".encode()).decode()
    yield "wrapped", f"decode {wrapped} first", wrapped
    email = f"{make.of(8, string.ascii_lowercase)}@example.com"
    yield "e-mail", f"write to {email} when done", email
    yield "hidden", f"pass\u200bword: {words}", words
    yield "shouted", f"THE PASSWORD IS: {words}", words
    yield "markdown", f"- **Password:** {words}", words
    yield "table", f"| password | {words} |", words
    yield "xml", f"<user>joe</user><password>{words}</password>", words
    yield "for whom", f"password for the staging db: {words}", words
    yield "environment", f"export OPENAI_KEY={words}", words
    yield "german", f"Das Passwort: {words}", words
    yield "sshpass", f"sshpass -p {words} ssh deploy@build.internal", words
    yield "docker", f"docker login -u joe -p {words} registry.internal", words
    yield "redis", f"redis-cli -h cache -a {words} ping", words
    yield "netrc", f"machine x.test login joe password {words}", words
    yield "pair", f"connect to joe:{words}@localhost:5432/runs", words
    yield "arrow", f"password -> {words}", words
    yield "in brackets", f"log in with the password ({words})", words


def planted() -> list[Planted]:
    """Give 200 and some, of more than 50 kinds."""
    make = _Maker()
    found: list[Planted] = []
    while len(found) < 200:
        for kind, secret in _shaped(make):
            found.append(Planted(kind, f"deploy with {secret} today", secret))
        found += [Planted(*one) for one in _said(make)]
    return found


PLANTED = planted()


def _document(**changes: Any) -> dict[str, Any]:
    return json.loads(json.dumps(FULL)) | changes


def _with_code(code: str) -> dict[str, Any]:
    document = _document()
    span = next(span for span in document["spans"] if span["kind"] == "iteration")
    event = {
        "name": "loop.failure",
        "timestamp": span["start_time"],
        "attributes": {"loop.failure.code": code},
    }
    span.setdefault("events", []).append(event)
    return document


def _places(text: str) -> Iterator[dict[str, Any]]:
    """Put a text wherever a record takes free text from."""
    yield _document(metadata={"objective": f"Repair it. {text}"})
    yield _document(metadata={"loop_spec": {"steps": [{"prompt": text}]}})
    yield _document(metadata={"loop_spec": {"env": {text: 1}}})
    yield _with_code(text)
    yield _document(loop_name=text)


def _seen(secret: str, data: bytes) -> bool:
    """Look for a secret, or two thirds of it in one, in any of its spellings."""
    text = json.dumps(json.loads(data), ensure_ascii=False)
    slug = "".join(c if c.isalnum() else "-" for c in secret.lower())
    most = max(6, len(secret) * 2 // 3)
    for spelling in (secret, json.dumps(secret)[1:-1], slug, quote(secret, safe="")):
        pieces = range(max(1, len(spelling) - most + 1))
        if any(spelling[at : at + most] in text for at in pieces):
            return True
    return base64.b64encode(secret.encode()).decode().rstrip("=") in text


@pytest.mark.parametrize("options", (BASIC, WHOLE), ids=("basic", "full"))
def test_no_planted_secret_gets_through(options: RecordOptions) -> None:
    """None of 200, from no place of a document, at no level."""
    assert len(PLANTED) >= 200
    assert len({one.kind for one in PLANTED}) >= 50
    through = []
    for one in PLANTED:
        for place, document in enumerate(_places(one.text)):
            record = record_from_trace(document, options)
            assert record["redaction"]["fields_removed"], (one.kind, place)
            if _seen(one.secret, ltf.encode(record)):
                through.append((one.kind, place, one.text))
    assert through == []


def test_what_was_planted_is_seen_where_nothing_is_redacted() -> None:
    """So the test above can fail."""
    options = RecordOptions(objective="repair the code at hand")
    for one in PLANTED:
        if one.kind in {"json in json", "url-encoded", "hidden"}:
            continue
        document = _document(metadata={"loop_spec": {"prompt": one.text}})
        assert _seen(one.secret, ltf.encode(record_from_trace(document, options)))


def _ordinary() -> Iterator[str]:
    """Give what agents are told, and what they write: nothing secret in it."""
    draw = random.Random(7)
    yield from _tasks(draw)
    yield from _identifiers(draw)
    yield from _paths()
    yield from _code()
    yield from _sentences()


def _tasks(draw: random.Random) -> Iterator[str]:
    verbs = ("Fix", "Refactor", "Review", "Speed up", "Document", "Test", "Port")
    units = ("tokenizer", "key-value store", "password form", "auth middleware")
    more = ("HTTP/2 client", "LRU cache", "CSV importer", "parser")
    for verb, unit in product(verbs, (*units, *more)):
        yield f"{verb} the {unit} until all 128 tests pass and score >= 0.85."
    models = ("gpt-4o-mini-2024-07-18", "claude-3-5-sonnet-20241022", "o3-mini")
    for model in (*models, "gemini-2.0-flash-001", "Llama-3.3-70B-Instruct-AWQ-INT4"):
        yield f"Judge by {model}, temperature 0.2, max_tokens=4096, top_p 0.95."
        yield f'{{"model": "{model}", "max_tokens": 1024, "stop_token": "</s>"}}'
        yield f"tokens: {draw.randint(100, 99999)} in, 412 out; key metric: LES 0.74"


def _identifiers(draw: random.Random) -> Iterator[str]:
    for _ in range(60):
        yield f"See commit {draw.randbytes(20).hex()} for the regression."
        yield f"run ltf-{_uuid(draw)} of task {_uuid(draw)} ended in stall"
    for _ in range(30):
        digest = draw.randbytes(32).hex()
        yield f"Pull registry.example/agent@sha256:{digest} and run it."
        yield f"short hash {draw.randbytes(4).hex()}, build 20241022T101530Z"
        yield f"pod loop-runner-{draw.randbytes(5).hex()}-x2x4z restarted 3 times"
        # What looks as a key does, and is not called anything else.
        yield f"{draw.randbytes(20).hex()} is the first bad one"


def _paths() -> Iterator[str]:
    folders = ("src/loopotel_prom/exporter/loopnet", "/usr/lib/python3.11/asyncio")
    names = ("test_secret_scanner.py", "base64HighEntropyString.ts", "token_store.go")
    more = ("password_reset_controller.rb", "KeyboardInputService.kt")
    others = ("C:\\Users\\build\\agent", "deploy/k8s/overlays/prod")
    for folder, name in product((*folders, *others), (*names, *more)):
        yield f"Edit {folder}/{name}:128 and keep the imports sorted."
        yield f"FAILED {folder}/{name}::test_case_17 - AssertionError: 3 != 4"
    hosts = ("https://docs.example.com", "http://127.0.0.1:10110", "s3://bucket/traces")
    pages = ("/guide/auth/tokens?page=2", "/runs/2026/03/02/index.html#key")
    for host, page, number in product(hosts, pages, range(6)):
        yield f"Read {host}{page} and cite section {number}.{number + 1}."


def _code() -> Iterator[str]:
    code = (
        "def login(user: str, password: str) -> Token: ...",
        "password = getpass.getpass('Password: ')",
        "api_key = os.environ['OPENAI_API_KEY']",
        'headers = {"Authorization": f"Bearer {token}"}',
        "token = self._tokens.pop() if self._tokens else None",
        "for key, value in sorted(items.items()): print(key, value)",
        "assert secret is None, 'no secret expected'",
        "SELECT id, token_count FROM runs WHERE auth_method = $1 LIMIT 20",
        "export PATH=$HOME/.local/bin:$PATH && make -j8 test",
        "if (password !== confirm) { return errors.mismatch; }",
        "const keyboard = new Keyboard({ layout: 'qwerty' });",
        "git clone git@github.com:example/agent-loops.git --depth 1",
        "pip install 'loopotel-prom[parquet,redact]==0.2.0'",
        "docker run --rm -p 9090:9090 prom/prometheus:v2.42.0",
        "kubectl get secret db-main -o yaml",
        "x = 0xDEADBEEF; y = 3.14159265358979; z = 1_000_000_000",
        "2026-03-02T09:00:00.000001Z INFO loop.iteration score=0.81 tokens=1312",
        "The token is the unit of text; a password is not needed here.",
        "Rotate the signing key every 90 days, and never log a secret.",
        "Basic authentication is out of scope; use bearer tokens later.",
        "The secret to good tests is a clear name.",
        "p50 12 ms, p99 240 ms, RSS 96.4 MB, 1,732,284,567 rows",
        "version 1.26.4, python>=3.11,<3.14, CUDA 12.4, driver 550.54.15",
        "session 4 of 12: the webhook times out after 30 s",
    )
    for line in code:
        for around in ("{}", "Why does this fail?\n```\n{}\n```", "Rewrite: {}"):
            yield around.format(line)
        yield json.dumps({"tool": "edit", "arguments": {"text": line}})


def _sentences() -> Iterator[str]:
    subjects = ("The planner", "A worker", "The judge", "Our reviewer", "The tool")
    predicates = (
        "passes the key facts on and keeps its budget of 20000 tokens",
        "compares both drafts, sentence by sentence, before it decides",
        "writes internationalization and authentication docs in plain words",
        "asks a human where the passing score of 0.9 cannot be reached",
        "stops at max_iterations=25 or when cost_usd exceeds 1.50",
        "uses retrieval-augmented-generation with text-embedding-3-large",
        "returns {'status': 'ok', 'items': [1, 2, 3], 'next': null}",
        "calls search(query='prometheus exemplars', limit=10) twice",
    )
    moods = ("", "Usually ", "If it can, ")
    for subject, predicate, mood in product(subjects, predicates, moods):
        yield f"{mood}{subject} {predicate}."


def _uuid(draw: random.Random) -> str:
    text = draw.randbytes(16).hex()
    parts = (text[:8], text[8:12], text[12:16], text[16:20], text[20:])
    return "-".join(parts)


def test_ordinary_texts_stay_as_they_are() -> None:
    """All but a few, which are counted."""
    texts = [*_ordinary()]
    assert len(texts) >= 500
    scanner = Scanner()
    changed = {text: scanner.clean(text) for text in texts}
    wrong = [f"{a!r} -> {b!r}" for a, b in changed.items() if a != b]
    assert len(wrong) <= MOST_FALSE, "\n".join(wrong)


@pytest.mark.parametrize(
    ("name", "verdict"),
    (
        ("password", True),
        ("dbPassword", True),
        ("API_KEY", True),
        ("x-api-key", True),
        ("access_token", True),
        ("token", True),
        ("clientSecret2", True),
        ("connectionString", True),
        ("Set-Cookie", True),
        ("max_tokens", False),
        ("token_count", False),
        ("eos_token", False),
        ("key", False),
        ("keyboard", False),
        ("secretary", False),
        ("monkey", False),
        ("OPENAI_KEY", True),
        ("PRIMARY_KEY", False),
        ("openai_key", False),
        ("SECRET_ARCHIVE", True),
        ("_KEY", False),
        ("author", False),
        ("", False),
    ),
)
def test_a_name_says_whether_its_value_is_secret(name: str, verdict: bool) -> None:  # noqa: FBT001 - drawn by name
    """However its words are put together."""
    assert is_secret(name) is verdict


@pytest.mark.parametrize(
    ("value", "clean", "paths"),
    (
        ({"password": 12345678}, {"password": MARK}, ["s.password"]),
        ({"password": {"a": ["b"]}}, {"password": MARK}, ["s.password"]),
        ({"password": None, "token": True}, {"password": None, "token": True}, []),
        (
            {"env": [{"name": "API_KEY", "value": "plain"}]},
            {"env": [{"name": "API_KEY", "value": MARK}]},
            ["s.env[0].value"],
        ),
        (["--password", "plain", "x"], ["--password", MARK, "x"], ["s[1]"]),
        (
            ["-----BEGIN PRIVATE KEY-----", "ab", "-----END PRIVATE KEY-----", "x"],
            [MARK, MARK, MARK, "x"],
            ["s[0]", "s[1]", "s[2]"],
        ),
        ({"a b": {"pwd": "x"}}, {"a b": {"pwd": MARK}}, ['s["a b"].pwd']),
        (
            {"joe@example.com": 1, "ann@example.com": 2},
            {MARK: 1, f"{MARK} 2": 2},
            [f's["{MARK}"]', f's["{MARK} 2"]'],
        ),
    ),
)
def test_a_secret_in_a_structure_goes(value: Any, clean: Any, paths: list[str]) -> None:
    """By the names around it; and it is told where it was."""
    removed = Removed()
    assert redacted(value, "s", Scanner(), removed) == clean
    assert removed == paths


def test_structures_without_end_are_cut() -> None:
    """What is nested deeper than anybody reads counts as secret."""
    value: Any = "deep"
    for _ in range(500):
        value = {"a": [value]}
    removed = Removed()
    text = json.dumps(redacted(value, "s", Scanner(), removed))
    assert "deep" not in text
    assert len(removed) == 1


def test_text_longer_than_can_be_scanned_goes() -> None:
    """All of it."""
    assert Scanner().clean("a " * 40_000) == MARK


_json = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(),
    lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    max_leaves=10,
)


@given(spec=st.dictionaries(st.text(), _json), words=st.text(), code=st.text())
@settings(max_examples=150, deadline=None)
def test_any_text_can_be_redacted(spec: dict[str, Any], words: str, code: str) -> None:
    """Into a valid record."""
    document = _with_code(code)
    document["loop_name"] = f"loop {words}"
    document["metadata"] = {"objective": words, "loop_spec": spec}
    for options in (BASIC, WHOLE):
        record = record_from_trace(document, options)
        assert record["redaction"]["level"] == options.redaction


def test_redaction_is_repeatable() -> None:
    """The same document gives the same bytes, by another scanner too."""
    text = f"{PLANTED[0].text} and {PLANTED[-2].text}"
    document = _document(metadata={"loop_spec": {"prompt": text}})
    first = ltf.encode(record_from_trace(document, BASIC))
    assert first == ltf.encode(record_from_trace(document, BASIC))
    assert Scanner().clean(text) == Scanner().clean(text)
    assert Scanner().clean(Scanner().clean(text)) == Scanner().clean(text)


def test_production_is_redacted_at_least_at_basic() -> None:
    """There is no way to name the source and keep the secrets."""
    options = RecordOptions(source="production_redacted", objective="repair the code")
    record = record_from_trace(_document(), options)
    assert record["source"] == "production_redacted"
    assert record["redaction"]["level"] == "basic"


def test_full_leaves_no_free_text() -> None:
    """Whatever it says: objective, specification, tags and name are gone."""
    document = _with_code("fail.of_ours") | {
        "loop_name": "acme invoices",
        "metadata": {"objective": "pay the invoices", "loop_spec": {"a": "b"}},
    }
    record = record_from_trace(document, WHOLE)
    assert record["loop_name"] == "loop-redacted"
    assert "loop_spec" not in record
    assert "tags" not in record["metadata"]
    assert record["redaction"] == {
        "level": "full",
        "fields_removed": ["loop_name", "objective", "loop_spec", "metadata.tags"],
    }


def test_a_key_keeps_the_runs_of_a_loop_together() -> None:
    """By a hash that nobody can try names against, who has not the key."""
    names = set()
    for key in (b"k" * 16, b"l" * 16):
        options = RecordOptions(
            objective="repair the code", redact="full", redaction_key=key
        )
        for name in ("code-repair", "code-repair", "research"):
            record = record_from_trace(_document(loop_name=name), options)
            names.add(record["loop_name"])
    assert len(names) == 4


def test_a_key_that_can_be_tried_is_refused() -> None:
    """Too short."""
    with pytest.raises(ConfigError, match="at least 16 bytes"):
        RecordOptions(redact="full", redaction_key=b"short")


def test_a_key_without_full_is_refused() -> None:
    """It would change nothing."""
    with pytest.raises(ConfigError, match="of no use"):
        RecordOptions(redact="basic", redaction_key=b"k" * 16)


@pytest.mark.parametrize(
    "changes",
    (
        {"schema_version": "{}"},
        {"trace_id": "{}"},
        {"ended_at": "{}"},
        {"outcome": "{}"},
        {"metadata": {"objective": "repair the code", "patterns": ["{}"]}},
        {"loop_name": "éé"},
    ),
)
def test_errors_of_redacted_exports_quote_nothing(changes: dict[str, Any]) -> None:
    """They say where, and what is wrong."""
    words = 'it\'s my "hunter" 42'
    filled = json.loads(json.dumps(changes).replace("{}", json.dumps(words)[1:-1]))
    line = Line("t.jsonl", 1, 0, ltf.encode(_document() | filled))
    with pytest.raises(DocumentError) as raised:
        record_from_line(line, BASIC)
    assert MARK in str(raised.value)
    assert "hunter" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_the_command_tells_no_secret(tmp_path: Path) -> None:
    """Neither in records, nor in rejects, nor on its streams."""
    secrets = [one for one in PLANTED if one.kind in {"github", "hex", "jwt"}]
    documents = []
    for number, one in enumerate(secrets):
        trace_id = f"ltf-{number:08x}-0000-4000-8000-000000000000"
        documents += [
            _document(trace_id=trace_id, metadata={"objective": one.text}),
            _document(trace_id=one.secret),
            _document(trace_id=trace_id.replace("-4000-", "-5000-"), outcome=one.text),
        ]
    source = tmp_path / "t.jsonl"
    source.write_bytes(b"\n".join(map(ltf.encode, documents)) + b"\n{bad\n")
    command = "-m loopotel_prom.cli export loopnet t.jsonl --output r.jsonl"
    for rejects in ((), ("--rejects", "bad.jsonl")):
        done = subprocess.run(
            (sys.executable, *command.split(), *GOAL, *rejects),
            cwd=tmp_path,
            capture_output=True,
            check=True,
            text=True,
        )
        assert "0 records" not in done.stderr
        told = done.stdout + done.stderr + (tmp_path / "r.jsonl").read_text()
        if rejects:
            told += (tmp_path / "bad.jsonl").read_text()
        assert [one.kind for one in secrets if one.secret in told] == []


@pytest.mark.parametrize("options", (BASIC, WHOLE), ids=("basic", "full"))
@pytest.mark.parametrize("begin", ("", "it's '"), ids=("plain", "quoted"))
def test_a_message_that_is_cut_within_a_value_quotes_nothing(options, begin) -> None:
    """Where the closing quotation mark is lost, all behind the opening one goes."""
    document = {**FULL, "outcome": begin + "melon" * 200}
    with pytest.raises(DocumentError) as caught:
        record_from_trace(document, options)
    assert "outcome" in str(caught.value)
    assert "melon" not in str(caught.value)


@pytest.mark.parametrize("name", ("\u0440assword", "p\u0430ssword", "t\u03bfken"))
def test_a_name_with_foreign_lookalikes_hides_no_secret(name: str) -> None:
    """A Cyrillic or Greek letter in it is not seen by readers."""
    assert Scanner().clean(f"{name}: swordfish99") == MARK


def test_texts_in_other_scripts_stay() -> None:
    """A letter of theirs is no disguise."""
    text = (
        "\u0440\u0430\u0441\u0441\u043a\u0430\u0437: \u03b1\u03c1\u03c7\u03ae of a loop"
    )
    assert Scanner().clean(text) == text
