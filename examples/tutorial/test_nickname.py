from filtered_websocket.testing import check_filter


def test_a_message_is_signed(fws_pipeline):
    pipeline = fws_pipeline("nickname", "broadcast_messages")
    ada = pipeline.connect("/?nickname=Ada")
    bob = pipeline.connect("/?nickname=Bob")
    ada.send("hello")
    assert bob.received == ["Ada: hello"]


def test_nobody_comes_in_without_a_nickname(fws_pipeline):
    pipeline = fws_pipeline("nickname", "broadcast_messages")
    nobody = pipeline.connect("/")
    assert nobody.close_code == 4000


def test_laws():
    check_filter("nickname", pipeline=["nickname", "broadcast_messages"])
