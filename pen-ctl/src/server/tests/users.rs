//! Real users on the real socket: who may connect, look and change, and that one of them cannot lock out the rest.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::*;

/// The group that may look, and users in it and out of it; nobody's on this machine.
const READERS: u32 = 64_999;
const MEMBER: u32 = 64_001;
const OTHER_MEMBER: u32 = 64_002;
const STRANGER: u32 = 64_003;

fn needs_met() -> bool {
    crate::needs::met((!rustix::process::geteuid().is_root()).then_some("root"))
}

/// Does something as another user: on Linux, credentials are a thread's own (credentials(7)), and this one ends with
/// it.
fn as_user<T: Send + 'static>(
    uid: u32,
    groups: &'static [u32],
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = std::thread::spawn(move || {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        work()
    });
    thread.join().unwrap()
}

/// A server whose socket is given to [`READERS`], and can be reached by everybody.
fn server(limits: Limits) -> Server {
    let server = Server::within(limits, Limits::NETWORK);
    let directory = server.socket.parent().unwrap();
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(socket::give_to(&server.socket, READERS));
    std::fs::set_permissions(&server.socket, std::fs::Permissions::from_mode(0o660)).unwrap();
    server
}

/// A request's status (0: no answer) and body.
fn ask(socket: &Path, method: &str, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: pen\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
    );
    let mut answer = Vec::new();
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.read_to_end(&mut answer));
    let text = String::from_utf8(answer).unwrap();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok((0, text)) };
    Ok((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_looks_and_changes_nothing_and_others_do_not_get_in() {
    if !needs_met() {
        return;
    }
    let server = server(Limits::LOCAL);
    let socket = server.socket.clone();
    let asked = |uid, groups, method: &'static str, path: &'static str| {
        let socket = socket.clone();
        as_user(uid, groups, move || ask(&socket, method, path))
    };
    assert_eq!(asked(MEMBER, &[READERS], "GET", "/v1/services").unwrap().0, 200);
    assert_eq!(server.asked(), [Request::ServiceList]);
    for (method, path) in [
        ("POST", "/v1/services"),
        ("PATCH", "/v1/services/web"),
        ("DELETE", "/v1/services/web"),
        ("POST", "/v1/services/web/backends"),
        ("PATCH", "/v1/services/web/backends/10.0.0.11"),
        ("DELETE", "/v1/services/web/backends/10.0.0.11"),
        ("POST", "/v1/interfaces"),
        ("PUT", "/v1/interfaces/eth0"),
        ("DELETE", "/v1/interfaces/eth0"),
        ("DELETE", "/v1/interfaces"),
        ("POST", "/v1/reload"),
        ("POST", "/v1/stop"),
    ] {
        let (status, body) = asked(MEMBER, &[READERS], method, path).unwrap();
        let error = error_of(&body);
        assert_eq!((status, error.code), (403, ErrorCode::Denied), "{method} {path}: {body}");
        assert!(error.message.contains("user 64001"), "{error}");
        assert!(error.hint.contains("root"), "{error}");
    }
    assert_eq!(server.asked(), []);
    let refused = asked(STRANGER, &[], "GET", "/v1/services").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(asked(0, &[], "POST", "/v1/reload").unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_floods_locks_out_nobody_but_himself() {
    if !needs_met() {
        return;
    }
    let limits = Limits { connections: 12, kept_for_writers: 4, per_caller: 5, ..Limits::LOCAL };
    let server = server(limits);
    let socket = server.socket.clone();
    let flood = |uid| {
        let socket = socket.clone();
        as_user(uid, &[READERS], move || -> Vec<_> {
            (0..20).map(|_| UnixStream::connect(&socket).unwrap()).collect()
        })
    };
    let one = flood(MEMBER);
    let asked = |uid| {
        let socket = socket.clone();
        as_user(uid, &[READERS], move || ask(&socket, "GET", "/v1/services").unwrap())
    };
    let (status, body) = asked(MEMBER);
    assert_eq!((status, error_of(&body).code), (503, ErrorCode::Busy), "{body}");
    assert!(error_of(&body).message.contains("you have too many"), "{body}");
    assert_eq!(asked(OTHER_MEMBER).0, 200);
    // Two that flood fill what there is for those who look; root is answered all the same.
    let two = flood(OTHER_MEMBER);
    assert_ne!(asked(STRANGER).0, 200);
    assert_eq!(asked(0).0, 200);
    drop((one, two));
    while asked(STRANGER).0 != 200 {
        std::thread::yield_now();
    }
}
