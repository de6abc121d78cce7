//! `ETag` and `If-Match`: two administrators do not undo each other's changes unawares.

use super::*;

/// The value of `ETag`, if there is one.
fn etag(headers: &str) -> Option<String> {
    headers.lines().find_map(|line| line.strip_prefix("etag: ")).map(str::to_owned)
}

#[tokio::test]
async fn answers_say_which_state_they_come_from_and_changes_which_one_they_were_made_for() {
    let server = Server::start();
    for path in ["/v1/status", "/v1/services", "/v1/backends", "/v1/interfaces"] {
        let (_, headers, _) = http(&server.socket, "GET", path, "").await;
        assert_eq!(etag(&headers), Some(revision().etag()), "{path}");
    }
    server.conditions();
    for (header, condition) in [
        ("", Condition::Any),
        ("If-Match: *\r\n", Condition::Any),
        ("If-Match: \"beef\"\r\n", "beef".parse().unwrap()),
        ("If-Match: \"beef\"\r\nIf-Match: \"cafe\"\r\n", "beef, cafe".parse().unwrap()),
    ] {
        let (status, ..) = http_with(&server.socket, "DELETE", "/v1/services/web", header, "").await;
        assert_eq!(status, 200, "{header}");
        assert_eq!(server.conditions(), [condition], "{header}");
    }
    let odd = "If-Match: \"be ef\"\r\n";
    let (status, _, answer) = http_with(&server.socket, "DELETE", "/v1/services/web", odd, "").await;
    assert_eq!((status, error_of(&answer).code), (400, ErrorCode::Invalid));
    assert_eq!(server.conditions(), []);
}
