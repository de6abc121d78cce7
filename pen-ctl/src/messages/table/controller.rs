//! What the controller answers.

use std::net::TcpListener;

use super::super::stage::Stage;
use super::super::{Row, copied, refused};
use crate::api::Request;
use crate::controller::{ControllerHandle, Options};
use crate::server::tcp::Door;

pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    [names(stage), requests(stage), data_plane(stage), trials(), doors(), ends()]
        .into_iter()
        .flatten()
        .collect()
}

fn names(stage: &Stage) -> Vec<Row> {
    vec![
        stage.typed(
            "service show nope",
            "there is no service",
            "nope",
            "`pen-ctl service list` shows those there are",
        ),
        stage.typed(
            "backend set web 10.0.0.99 --weight 2",
            "has no backend",
            "service web has no backend 10.0.0.99",
            "`pen-ctl backend list web` shows those it has",
        ),
        copied(
            "attach to eth0: the proxy listens on sockets and attaches to no interface; leave that out, or end the proxy and run XDP (`run --dataplane xdp`)",
            "attaches to no interface",
            "attach to eth0",
            "leave that out",
        ),
        copied(
            "detach from lo: the proxy listens on sockets and attaches to no interface; nothing is to be done; to end a service here, `service remove`",
            "attaches to no interface",
            "detach from lo",
            "nothing is to be done",
        ),
        stage.typed("attach eth9", "there is no interface", "eth9", "`ip link` shows those there are"),
        stage.typed(
            "attach tun0",
            "carries no Ethernet frames",
            "interface tun0",
            "attach to an Ethernet interface",
        ),
        stage.typed(
            "attach --mode native bond0",
            "in native mode it would forward nothing",
            "interface bond0",
            "attach its ports: eth2",
        ),
    ]
}

fn requests(stage: &Stage) -> Vec<Row> {
    let file = stage.file("");
    let backend = "/v1/services/web/backends/10.0.0.11";
    vec![
        stage.asked(
            "PATCH /v1/services/web",
            r#"{"backend":[{"address":"10.0.0.14"}]}"#,
            "backends are not changed together with their service",
            "service web",
            "use `backend add`, `backend set` and `backend remove`",
        ),
        stage.asked(
            &format!("PATCH {backend}"),
            r#"{"address":"10.0.0.14"}"#,
            "its address cannot be changed",
            "backend 10.0.0.11 of service web",
            "add the new one and remove the old one",
        ),
        stage.asked(
            "POST /v1/reload",
            "",
            "was started without a file",
            "this controller",
            "start it with `run -c FILE`",
        ),
        stage.typed_words(
            &["apply", &file, "--if-match", "00ff"],
            "changed meanwhile",
            "the desired state is now at revision",
            "look at what was changed, then ask again",
        ),
        stage.typed_words(
            &["apply", &file, "--confirm", "0s"],
            "0s is no time for a trial",
            "0s",
            "use 1s to 24h",
        ),
        stage.typed("apply --confirmed", "nothing is on trial", "nothing", "see `pen-ctl history`"),
    ]
}

fn data_plane(stage: &Stage) -> Vec<Row> {
    stage.plane.lock().occupied.insert("eth1".into(), "program 17 is already there".into());
    let mut rows = vec![stage.typed(
        "attach eth1",
        "program 17 is already there",
        "attach to eth1",
        "detach that first; nothing was changed",
    )];
    stage.plane.lock().occupied.clear();
    stage.done("attach eth1");
    stage.plane.lock().occupied.insert("eth1".into(), "program 17 is already there".into());
    stage.plane.lock().observed.interfaces.remove("eth1");
    rows.push(stage.typed(
        "attach eth1",
        "nothing was changed by this command",
        "attach to eth1",
        "it is tried again every 5 s",
    ));
    stage.plane.lock().occupied.clear();
    stage.done("detach eth1");
    let poor = Stage::with(Options { available_memory: || Some(0), ..Options::default() });
    rows.push(poor.typed(
        "service add web 10.0.0.100:80/tcp",
        "MiB of memory are needed and 0 are left",
        "1 MiB",
        "free memory, or ask for less",
    ));
    rows.push(copied(
        "detach XDP from eth0: Invalid argument (os error 22); detaching is tried again every 5 s",
        "Invalid argument",
        "detach XDP from eth0",
        "is tried again every 5 s",
    ));
    rows
}

fn trials() -> Vec<Row> {
    let stage = Stage::with(Options::default());
    let file = stage.file("[[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\n");
    stage.done(&format!("apply {file} --confirm 10m"));
    vec![stage.typed(
        "service remove web",
        "is on trial for another",
        file,
        "`pen-ctl apply --confirmed` keeps it",
    )]
}

/// Addresses that cannot be listened on.
fn doors() -> Vec<Row> {
    let stage = Stage::with(Options::default());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _held = TcpListener::bind(taken).unwrap();
    let apply = |address: &str, what, to_do: &'static str| {
        let file = stage.file(format!("http = \"{address}\"\n"));
        stage.typed_words(&["apply", &file], what, format!("listen for HTTP on {address}"), to_do)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    vec![
        apply(
            &taken.to_string(),
            "somebody else listens there",
            "shows who; stop that, or give another address",
        ),
        apply(
            "192.0.2.77:9080",
            "this machine does not have that address",
            "`ip address` shows those it has",
        ),
        refused(
            Door::default().open(Some(taken)),
            "somebody else listens there",
            format!("listen for HTTP on {taken}"),
            "`ss -ltnp",
        ),
        // It takes another user, and a kernel without IPv6.
        copied(
            "listen for HTTP on 0.0.0.0:80: permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE; give a higher one",
            "permission denied",
            "0.0.0.0:80",
            "give a higher one",
        ),
        copied(
            "listen for HTTP on [::1]:9080: Address family not supported by protocol (os error 97); give another address (--http ADDR, or http in the file)",
            "Address family not supported",
            "[::1]:9080",
            "give another address",
        ),
    ]
}

/// Who asks while the controller ends.
fn ends() -> Vec<Row> {
    let (handle, calls) = ControllerHandle::new();
    drop(calls);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    vec![refused(
        runtime.block_on(handle.request(Request::Status)),
        "is ending",
        "the controller",
        "try again",
    )]
}
