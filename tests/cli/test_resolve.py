"""`resolve`: which row is meant, what the provider says of the id, and what settles the row."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reelsheet import settings
from reelsheet.cli import call
from reelsheet.cli import resolve as resolving
from reelsheet.errors import Stopped, UsageError
from reelsheet.ledger import Sheet
from reelsheet.manifest.identity import identity_of
from reelsheet.manifest.rows import parse

RUN = "20260115-120000-1f3a9c"
NOT_FOUND = (404, {"error": "Prediction not found"})


class Provider(ThreadingHTTPServer):
    """Knows the predictions in `known`, once it has answered what `says` holds."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.known = {"pred-dress": "processing"}
        self.says = []
        self.asked = []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        prediction = self.path.rpartition("/")[2]
        self.server.asked.append(prediction)
        status, answer = NOT_FOUND
        if prediction in self.server.known:
            status, answer = 200, {"id": prediction, "status": self.server.known[prediction]}
        if self.server.says:
            status, answer = self.server.says.pop(0)
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_): ...


@pytest.fixture(autouse=True)
def provider(monkeypatch):
    """The provider at the API address in use; nobody waits between two questions."""
    server = Provider()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("VIBEDREAM_BASE_URL", server.address)
    monkeypatch.setenv("VIBEDREAM_API_KEY", "vdk-some-key")
    monkeypatch.setattr(resolving, "ASK_PAUSES_S", (0.0,) * 5)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("flags", [[], ["--id", "pred-x", "--abandon"]])
def test_resolve_wants_either_an_id_or_abandon(ran, capsys, flags):
    assert call(["resolve", "dress", *flags]) == 2
    assert "--id PREDICTION, or --abandon" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["identity", "beginning", "upper", "name", "line", "row"])
def test_a_row_is_named_by_identity_name_or_line(ran, ledger, ids, capsys, way):
    later = ran("20260116-120000-aaaaaa")
    row = {
        "identity": ids[1], "beginning": ids[1][:8], "upper": ids[1][:12].upper(), "name": "Dress",
        "line": f"{later}:3", "row": "row 3",
    }[way]  # fmt: skip
    assert call(["resolve", row, "--id", "pred-dress", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["identity"], output["state"], output["attempt"]) == (ids[1], "submitted", 1)
    assert (output["total_cost_usd"], output["at_risk_usd"]) == (0.54, 0.0)
    assert "at no cost" in output["next"]
    assert ledger.history(ids[1]).latest.prediction_id == "pred-dress"


def test_an_abandoned_row_is_at_risk_no_more(ran, ledger, ids, capsys):
    assert call(["resolve", "dress", "--abandon"]) == 0
    assert "never charged" in capsys.readouterr().out
    assert ledger.run(RUN).at_risk_cents == 0
    assert ledger.history(ids[1]).is_free


@pytest.mark.parametrize("wrong", ["", "../etc", "a b", "x" * 201, "-"])
def test_what_is_no_id_settles_nothing(ran, ledger, ids, capsys, wrong):
    code = call(["resolve", "dress", f"--id={wrong}"])
    assert code == 2
    output = capsys.readouterr().err
    assert ("does not know" if wrong == "-" else "cannot be a prediction id") in output  # an odd id may be one
    assert ledger.run(RUN).at_risk_cents == 54


@pytest.mark.parametrize(
    ("row", "output"),
    [("mug", "paid for as prediction pred-mug"), ("nobody", "knows no row"), (f"{RUN}:9", "no row in line 9")],
)
def test_a_row_that_is_not_unknown_says_how_it_stands(ran, capsys, row, output):
    assert call(["resolve", row, "--abandon"]) == 2
    assert output in capsys.readouterr().err


def test_a_name_that_fits_several_unknown_rows_says_which(ledger, ids, registers, capsys):
    registers(ledger, RUN, rows=2, sheet=Sheet((2, 3), ("dress", "dress"), tuple(ids)))
    for identity in ids:
        ledger.record_unknown(ledger.claim(identity, run_id=RUN, price_cents=54).attempt, "lost")
    assert call(["resolve", "dress", "--abandon"]) == 2
    output = capsys.readouterr().err
    assert all(identity[:8] in output for identity in ids)
    assert ledger.run(RUN).at_risk_cents == 108


def test_a_row_of_a_killed_process_can_be_settled(ran, ledger, ids, expires, capsys, provider):
    provider.known["pred-late"] = "completed"
    ledger.resolve(ids[1], None)
    ledger.claim(ids[1], run_id=RUN, price_cents=54)
    expires(ledger, ledger)
    assert call(["resolve", ids[1], "--id", "pred-late"]) == 0
    assert ledger.history(ids[1]).latest.prediction_id == "pred-late"


@pytest.mark.parametrize("state", ["processing", "completed", "failed", "queued_v2"])
def test_an_id_that_the_provider_knows_in_any_state_settles_the_row(ran, ledger, ids, provider, state):
    provider.known["pred-dress"] = state
    assert call(["resolve", "dress", "--id", "pred-dress"]) == 0
    assert provider.asked == ["pred-dress"]
    assert ledger.history(ids[1]).latest.prediction_id == "pred-dress"


def test_an_id_that_is_not_known_everywhere_yet_is_asked_for_again(ran, ledger, ids, provider):
    provider.says = [NOT_FOUND, (503, b"busy"), NOT_FOUND]
    assert call(["resolve", "dress", "--id", "pred-dress"]) == 0
    assert len(provider.asked) == 4
    assert ledger.history(ids[1]).latest.prediction_id == "pred-dress"


UNKNOWN_THERE = {
    "404": NOT_FOUND,
    "410": (410, {}),
    "400 for what is no id of theirs": (400, {"error": "not a UUID"}),
    "422": (422, {"detail": [{"msg": "invalid id"}]}),
}
UNREACHABLE = {
    "500": (500, b"oops"),
    "503": (503, b""),
    "429": (429, {}),
    "a firewall": (403, b"<html>blocked</html>"),
    "a page that is not found": (404, b"<html>Cannot GET</html>"),
    "another prediction": (200, {"id": "pred-other", "status": "completed"}),
    "a sign-in page": (200, b"<html>Sign in</html>"),
    "no balance": (402, {}),
}
REFUSED_KEY = {"401": (401, {"error": "Invalid API key"}), "403": (403, {"error": "forbidden"})}


@pytest.mark.parametrize("case", [*UNKNOWN_THERE, *UNREACHABLE, *REFUSED_KEY])
def test_an_id_that_the_provider_does_not_confirm_changes_nothing(ran, ledger, ids, provider, capsys, case):
    answer = (UNKNOWN_THERE | UNREACHABLE | REFUSED_KEY)[case]
    provider.says = [answer] * 6
    before = ledger.history(ids[1])
    assert call(["resolve", "dress", "--id", "pred-dress"]) == (2 if case in UNKNOWN_THERE else 3)
    said = capsys.readouterr().err
    assert "Nothing was changed" in said
    assert ("does not know" if case in UNKNOWN_THERE else "could not be asked") in said
    assert len(provider.asked) == (1 if case in REFUSED_KEY else 6)
    assert ledger.history(ids[1]) == before


def test_a_provider_that_is_not_there_changes_nothing(ran, ledger, ids, provider, capsys):
    provider.shutdown()
    provider.server_close()
    assert call(["resolve", "dress", "--id", "pred-dress"]) == 3
    assert "could not be asked" in capsys.readouterr().err
    assert ledger.run(RUN).at_risk_cents == 54


def test_without_a_key_nobody_can_be_asked(ran, ledger, monkeypatch, capsys):
    monkeypatch.delenv("VIBEDREAM_API_KEY")
    assert call(["resolve", "dress", "--id", "pred-dress"]) == 2
    assert "VIBEDREAM_API_KEY" in capsys.readouterr().err
    assert ledger.run(RUN).at_risk_cents == 54


@pytest.mark.parametrize(("answer", "error"), [(NOT_FOUND, UsageError), ((503, b""), Stopped)])
async def test_the_provider_is_asked_for_half_a_minute(provider, monkeypatch, answer, error):
    monkeypatch.undo()
    provider.says = [answer] * 9
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    current = settings.Settings(api_key="vdk-some-key", base_url=provider.address)
    with pytest.raises(error):
        await resolving.ask_provider(current, "pred-x", sleep=sleep)
    assert sum(waited) == 30
    assert len(provider.asked) == len(waited) + 1 >= 4


def test_an_id_of_another_row_is_refused_without_asking(ran, ledger, ids, provider, capsys):
    provider.known["pred-mug"] = "completed"
    assert call(["resolve", "dress", "--id", "pred-mug"]) == 2
    said = capsys.readouterr().err
    assert ids[0][:8] in said
    assert "another row" in said
    assert provider.asked == []
    assert ledger.run(RUN).at_risk_cents == 54


@pytest.mark.parametrize("way", ["name", "identity", "line"])
def test_a_wrong_id_is_replaced_by_the_right_one(ran, ledger, ids, provider, capsys, way):
    provider.known["pred-wrong"] = "completed"
    row = {"name": "dress", "identity": ids[1][:8], "line": f"{RUN}:3"}[way]
    assert call(["resolve", row, "--id", "pred-wrong"]) == 0
    assert call(["resolve", row, "--id", "pred-nonsense"]) == 2
    assert ledger.history(ids[1]).latest.prediction_id == "pred-wrong"
    assert call(["resolve", row, "--id", "pred-dress"]) == 0
    history = ledger.history(ids[1])
    assert (history.latest.prediction_id, history.latest.number, history.total_cents) == ("pred-dress", 1, 54)
    assert "at no cost" in capsys.readouterr().out


def test_ids_that_were_swapped_are_put_right(ledger, ids, registers, provider):
    provider.known |= {"pred-a": "completed", "pred-b": "completed"}
    registers(ledger, RUN, rows=2, sheet=Sheet((2, 3), ("mug", "dress"), tuple(ids)))
    for identity in ids:
        ledger.record_unknown(ledger.claim(identity, run_id=RUN, price_cents=54).attempt, "lost")
    for command in (("mug", "--id", "pred-b"), ("dress", "--id", "pred-a")):
        assert call(["resolve", *command]) == 0
    assert call(["resolve", "mug", "--id", "pred-a"]) == 2
    assert call(["resolve", "mug", "--abandon"]) == 0
    assert call(["resolve", "dress", "--id", "pred-b"]) == 0
    assert call(["resolve", "mug", "--id", "pred-a"]) == 0
    assert [ledger.history(identity).latest.prediction_id for identity in ids] == ["pred-a", "pred-b"]
    assert ledger.run(RUN).confirmed_cents == 108


def test_what_was_abandoned_by_mistake_can_have_its_id(ran, ledger, ids):
    assert call(["resolve", "dress", "--abandon"]) == 0
    assert call(["resolve", "dress", "--id", "pred-dress"]) == 0
    assert ledger.history(ids[1]).latest.prediction_id == "pred-dress"
    assert (ledger.run(RUN).confirmed_cents, ledger.run(RUN).at_risk_cents) == (108, 0)


def test_a_row_of_another_api_address_is_not_settled_here(ran, ledger, ids, registers, capsys, provider):
    """A sandbox's row and the real one have the same name; only the one at the address in use is meant."""
    sheet = b"sku,image,prompt\r\ndress,https://shop.test/dress.jpg,walk\r\n"
    row = parse(sheet, "m.csv").rows[0]
    other = identity_of(row, settings.Settings(base_url="https://api.vibedream.ai"))
    options = {"base_url": "https://api.vibedream.ai"}
    registers(ledger, "20260117-120000-bbbbbb", options=options, rows=1, sheet=Sheet((2,), ("dress",), (other,)))
    ledger.record_unknown(
        ledger.claim(other, run_id="20260117-120000-bbbbbb", price_cents=54).attempt, "The answer was lost."
    )
    assert call(["resolve", other[:8], "--id", "pred-dress"]) == 2
    assert "VIBEDREAM_BASE_URL to https://api.vibedream.ai" in capsys.readouterr().err
    assert call(["resolve", "dress", "--id", "pred-dress"]) == 0
    assert ledger.history(ids[1]).latest.prediction_id == "pred-dress"
    assert call(["resolve", "20260117-120000-bbbbbb:2", "--abandon"]) == 2
    assert ledger.history(other).risk_cents == 54
