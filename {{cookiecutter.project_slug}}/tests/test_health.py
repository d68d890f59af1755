from fastapi.testclient import TestClient


def test_health_says_that_the_process_lives(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}


def test_ready_is_503_while_draining_and_health_is_not(client: TestClient) -> None:
    assert client.get("/ready").status_code == 200
    assert client.portal is not None
    client.portal.call(client.app_state["shutdown"].begin)
    response = client.get("/ready")
    assert (response.status_code, response.json()["status"]) == (503, "draining")
    assert client.get("/health").status_code == 200
