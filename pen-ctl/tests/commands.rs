//! The binary as a user meets it: exit statuses, the one line on stderr, documents with `--json`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pen_ctl::api::document::{ChangeDocument, CheckDocument, ServiceList};
use pen_ctl::api::{Answered, ErrorCode, ErrorDocument, Reply, Request};
use pen_ctl::controller::ControllerHandle;
use pen_ctl::server::{self, socket::BoundSocket};
use pen_ctl::state::desired::Desired;
use pen_ctl::state::revision::Revision;
use pen_ctl::state::store::Store;

#[path = "shared/needs.rs"]
mod needs;

/// `nobody`: a user that is neither root nor the one the tests run as.
const NOBODY: u32 = 65_534;

/// A place of its own for each test.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        // So that others get as far as the socket.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Place { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("pen.sock")
    }

    /// pen-ctl with everything here.
    fn command(&self, words: &[&str]) -> Command {
        self.arguments(Command::new(env!("CARGO_BIN_EXE_pen-ctl")), words)
    }

    /// The same as another user, from a copy: the build directory may be closed to others.
    fn command_as_nobody(&self, words: &[&str]) -> Command {
        let copy = self.path("pen-ctl");
        if !copy.exists() {
            // By a process of its own: a file that we had open for writing could not be run at once, because other
            // tests' children inherit the descriptor for a moment.
            let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_pen-ctl")).arg(&copy).status().unwrap();
            assert!(copied.success());
        }
        let mut command = self.arguments(Command::new(copy), words);
        command.uid(NOBODY).gid(NOBODY);
        command
    }

    fn arguments(&self, mut command: Command, words: &[&str]) -> Command {
        command.current_dir("/").env_remove("PEN_SOCKET").env_remove("PEN_BPFFS");
        command.arg("--socket").arg(self.socket()).arg("--state-dir").arg(self.path("state"));
        command.arg("--bpffs").arg(self.path("bpf")).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Ended {
        Ended::from(self.command(words).output().unwrap())
    }

    /// Serves the API here, for as long as the returned value lives.
    fn serve(&self) -> tokio::runtime::Runtime {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _inside = runtime.enter();
        let (bound, listener) = BoundSocket::bind(&self.socket()).unwrap();
        let (handle, mut calls) = ControllerHandle::new();
        runtime.spawn(async move {
            while let Some(call) = calls.recv().await {
                let reply = match call.asked.request {
                    Request::ServiceList => Reply::Services(ServiceList { services: Vec::new() }),
                    _ => {
                        Reply::Changed(ChangeDocument { changed: true, warnings: Vec::new(), forwards: None })
                    }
                };
                let _ = call.answer.send(Ok(Answered { reply, revision: Revision::of(&Desired::new(1)) }));
            }
        });
        runtime.spawn(async move {
            let _bound = bound;
            server::serve(listener, server::tcp::Door::default(), handle, std::future::pending()).await;
        });
        runtime
    }
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        Ended {
            status: output.status.code().expect("an exit status"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// Failed with this status and one line on stderr that says these things.
    #[track_caller]
    fn refused(&self, status: i32, words: &[&str]) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("pen-ctl: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {self:?}");
        }
    }

    #[track_caller]
    fn error(&self) -> pen_ctl::api::ApiError {
        let document: ErrorDocument =
            serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        document.error
    }
}

/// Whether this test may become another user; without that it is skipped, or fails where nothing may be missing.
fn may_change_user() -> bool {
    needs::met((!rustix::process::geteuid().is_root()).then_some("root"))
}

#[test]
fn without_a_controller_commands_end_with_3_and_say_how_to_start_one() {
    let place = Place::new();
    for words in [
        &["status"][..],
        &["service", "list"],
        &["service", "add", "web", "10.0.0.100:80/tcp"],
        &["backend", "add", "web", "10.0.0.11"],
        &["backend", "list"],
    ] {
        let socket = place.socket();
        place.run(words).refused(3, &["no controller answers", socket.to_str().unwrap(), "pen-ctl run"]);
    }
    let ended = place.run(&["--json", "status"]);
    ended.refused(3, &["no controller answers"]);
    let error = ended.error();
    assert_eq!(error.code, ErrorCode::NoController);
    assert!(error.hint.contains("pen-ctl run"), "{error:?}");
    assert!(!error.message.contains("pen-ctl run"), "{error:?}");
}

#[test]
fn wrong_usage_ends_with_2_and_help_with_0() {
    let place = Place::new();
    for words in [
        &["nonsense"][..],
        &[],
        &["attach"],
        &["detach"],
        &["service", "set", "web"],
        &["backend", "set", "web", "10.0.0.11"],
        &["run", "--adopt", "--discard"],
        &["run", "--dataplane", "carrier-pigeon"],
    ] {
        assert_eq!(place.run(words).status, 2, "{words:?}");
    }
    for words in [&["--help"][..], &["service", "add", "--help"], &["--version"]] {
        let ended = place.run(words);
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{words:?}");
        assert!(!ended.stdout.is_empty());
    }
}

#[test]
fn what_cannot_be_is_refused_before_anybody_is_asked() {
    let place = Place::new();
    for (words, says) in [
        (&["service", "add", "web", "10.0.0.100:80"][..], "no protocol"),
        (
            &["service", "add", "web", "10.0.0.100:80/tcp", "--scheduler", "random"],
            "use maglev, round-robin or least-connections",
        ),
        (&["service", "add", "web", "10.0.0.100:80/tcp", "--health", "tcp,rise"], "key=value"),
        (&["service", "set", "web", "--tracking-timeout", "5"], "unit"),
        (&["service", "set", "web", "--affinity", "random"], "service web: affinity: unknown value `random`"),
        (
            &["backend", "add", "web", "10.0.0.11", "--weight", "0"],
            "backend 10.0.0.11 of service web: weight 0",
        ),
        (
            &["backend", "set", "web", "10.0.0.11", "--weight", "-1"],
            "weight -1 is out of range; use 1 to 1000",
        ),
        (&["backend", "add", "web", "10.0.0.11:0"], "port 0"),
        (&["backend", "set", "web", "10.0.0.11:0", "--weight", "2"], "port 0"),
        (&["backend", "set", "web", "10.0.0.11", "--mac", "2:0:0"], "MAC"),
        (&["attach", "eth0", "--mode", "fast"], "fast"),
    ] {
        place.run(words).refused(1, &[says]);
    }
    let ended = place.run(&["--json", "backend", "add", "web", "10.0.0.11:0"]);
    assert_eq!(ended.error().code, ErrorCode::Invalid);
}

#[test]
fn a_damaged_state_does_not_keep_one_from_stopping_and_is_kept() {
    let place = Place::new();
    std::fs::DirBuilder::new().mode(0o700).create(place.path("state")).unwrap();
    let file = place.path("state").join("state.json");
    std::fs::write(&file, "{\"format\": 1,").unwrap();
    let detached = place.run(&["detach", "eth0"]);
    assert_eq!(detached.status, 0, "{detached:?}");
    for word in ["could not be changed", "state.json", "it ends in the middle"] {
        assert!(detached.stderr.contains(word), "{detached:?}");
    }
    let json = place.run(&["--json", "detach", "eth0"]);
    let document: ChangeDocument = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document.warnings.len(), 1, "{json:?}");
    assert_eq!(place.run(&["stop", "--detach"]).status, 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"format\": 1,");
}

#[test]
fn a_detach_that_the_next_controller_undoes_is_a_failure_that_says_so() {
    let place = Place::new();
    let mut store = Store::open(&place.path("state")).unwrap();
    let mut desired = store.desired().clone();
    desired.interfaces = serde_json::from_str("[\"eth0\"]").unwrap();
    store.replace(desired).unwrap();
    drop(store);
    // Not even root can write a file where a directory is.
    std::fs::create_dir(place.path("state").join("state.json.new")).unwrap();
    place.run(&["detach", "eth0"]).refused(1, &["next controller attaches again", "cannot be written"]);
    assert_eq!(place.run(&["detach", "eth1"]).status, 0, "the state does not name it: nothing comes back");
}

#[test]
fn detach_and_stop_have_nothing_to_do_where_nothing_runs() {
    let place = Place::new();
    for words in [&["detach", "eth0"][..], &["detach", "--all"], &["stop"], &["stop", "--detach"]] {
        let ended = place.run(words);
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{words:?}: {ended:?}");
        assert!(ended.stdout.contains("nothing to do"), "{words:?}: {ended:?}");
        let json = place.run(&[&["--json"], words].concat());
        let document: ChangeDocument = serde_json::from_str(&json.stdout).unwrap();
        assert!(!document.changed, "{words:?}");
    }
    assert!(!place.path("state").exists(), "looking made a state directory");
}

#[test]
fn check_needs_neither_root_nor_a_controller() {
    let place = Place::new();
    let good = place.path("good.toml");
    std::fs::write(
        &good,
        "interfaces = [\"eth0\", \"eth1\"]\n\
         [[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\nbackend = [{ address = \"10.0.0.11\" }]\n",
    )
    .unwrap();
    let bad = place.path("bad.toml");
    std::fs::write(&bad, "interfaces = [\"eth0\"]\nintrefaces = 1\n").unwrap();
    let run = |file: &Path| {
        let words = ["check", file.to_str().unwrap()];
        let root = rustix::process::geteuid().is_root();
        let mut command = if root { place.command_as_nobody(&words) } else { place.command(&words) };
        Ended::from(command.output().unwrap())
    };
    let ended = run(&good);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert!(ended.stdout.contains("2 interfaces, 1 service, 1 backend)"), "{ended:?}");
    let json = place.run(&["--json", "check", good.to_str().unwrap()]);
    let held: CheckDocument = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((held.interfaces, held.services, held.backends), (2, 1, 1));
    let empty = place.path("empty.toml");
    std::fs::write(&empty, "# nothing\n").unwrap();
    let ended = run(&empty);
    assert_eq!(ended.status, 0);
    assert!(ended.stderr.contains("removes every service"), "{ended:?}");
    let shut = place.path("shut.toml");
    let service = "[[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\nallow = [\"2001:db8::/32\"]\n";
    std::fs::write(&shut, service).unwrap();
    let ended = run(&shut);
    assert_eq!(ended.status, 0);
    assert!(ended.stderr.contains("service web: its `allow` has no IPv4 prefix"), "{ended:?}");
    run(&bad).refused(1, &["bad.toml:2:1", "intrefaces"]);
    run(&place.path("none.toml")).refused(1, &["none.toml"]);
}

#[test]
fn json_is_the_apis_document_as_it_is() {
    let place = Place::new();
    let _server = place.serve();
    let ended = place.run(&["service", "list", "--json"]);
    assert_eq!((ended.status, ended.stdout.as_str()), (0, "{\"services\":[]}\n"), "{ended:?}");
    assert_eq!(place.run(&["service", "list"]).stdout, "no services\n");
}

#[test]
fn another_user_may_look_but_not_change_anything() {
    if !may_change_user() {
        return;
    }
    let place = Place::new();
    let _server = place.serve();
    let run = |words: &[&str]| Ended::from(place.command_as_nobody(words).output().unwrap());

    // As the socket is made: not even a look.
    run(&["service", "list"]).refused(1, &["permission denied", "become root"]);

    // As for a member of the group: anybody may connect now.
    std::fs::set_permissions(place.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(run(&["service", "list"]).status, 0);
    for words in [
        &["service", "add", "web", "10.0.0.100:80/tcp"][..],
        &["service", "remove", "web"],
        &["backend", "remove", "web", "10.0.0.11"],
        &["attach", "eth0"],
        &["detach", "eth0"],
        &["stop", "--detach"],
    ] {
        run(words).refused(1, &["user 65534 may look", "become root"]);
    }
    assert_eq!(place.run(&["service", "remove", "web"]).status, 0);
}

/// A controller of another version, to all requests the same: what it answers to.
fn answer_as(place: &Place, version: &str) -> std::thread::JoinHandle<()> {
    let listener = std::os::unix::net::UnixListener::bind(place.socket()).unwrap();
    let answer = format!(
        "HTTP/1.1 200 OK\r\nPen-Version: {version}\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n\
         {{\"services\":[]}}"
    );
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut heard = [0; 4096];
        // A small request comes as a whole.
        assert!(stream.read(&mut heard).unwrap() > 0);
        stream.write_all(answer.as_bytes()).unwrap();
    })
}

#[test]
fn a_controller_of_another_version_is_told_in_one_line_and_obeyed() {
    for (version, lines) in [("99.1.2", 1), (env!("CARGO_PKG_VERSION"), 0)] {
        let place = Place::new();
        let controller = answer_as(&place, version);
        let ended = place.run(&["service", "list"]);
        controller.join().unwrap();
        assert_eq!((ended.status, ended.stdout.as_str()), (0, "no services\n"), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), lines, "{ended:?}");
        for word in ["pen 99.1.2", env!("CARGO_PKG_VERSION"), "restart the controller"] {
            assert_eq!(ended.stderr.contains(word), lines == 1, "{ended:?}");
        }
    }
}

#[test]
fn what_could_not_be_written_whole_is_no_success() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else { return };
    let ended = Command::new(env!("CARGO_BIN_EXE_pen-ctl"))
        .args(["completions", "bash"])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("standard output cannot be written"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
