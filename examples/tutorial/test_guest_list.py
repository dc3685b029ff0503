from hypothesis import strategies as st

from filtered_websocket.testing import check_filter

CHAT = ["nickname", "guest_list", "broadcast_messages"]


def test_a_nickname_is_taken_until_its_owner_has_left(fws_pipeline):
    pipeline = fws_pipeline(*CHAT)
    ada = pipeline.connect("/?nickname=Ada")
    bob = pipeline.connect("/?nickname=Bob")
    impostor = pipeline.connect("/?nickname=ada")
    assert (impostor.close_code, impostor.close_reason) == (4001, "ada is taken")
    ada.vanish()
    assert bob.received == ["Bob is here", "Ada has left"]
    assert pipeline.connect("/?nickname=ada").is_open


def test_laws():
    guests = st.sampled_from(["/?nickname=Ada", "/?nickname=ada", "/?nickname=Bob"])
    check_filter("guest_list", pipeline=CHAT, requests=guests)
