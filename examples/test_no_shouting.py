"""Test the filter in no_shouting.py: pytest test_no_shouting.py"""


def test_shouting_reaches_nobody(fws_pipeline):
    pipeline = fws_pipeline("no_shouting", "broadcast_messages")
    alice, bob = pipeline.connect(), pipeline.connect()
    alice.send("hello")
    alice.send("HELLO!")
    assert bob.received == ["hello"]
