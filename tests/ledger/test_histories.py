"""What the ledger knows of identities, found by what people have at hand."""


def test_rows_are_found_by_identity_its_beginning_or_prediction(process):
    identity = "0123456789abcdef" * 4
    process.submitted(identity, "the-prediction")
    for key in (identity, identity[:8], identity[:8].upper(), "the-prediction"):
        assert [one.latest.identity for one in process.ledger.find(key)] == [identity]
    assert process.ledger.find(identity[:7]) == []
    assert process.ledger.find("nothing") == []
