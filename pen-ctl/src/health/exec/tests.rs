//! With shells as programs: what they are told, what they leave behind, how they end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::*;
use crate::check::Kind;
use crate::health::testing::{PATIENT, asked, question};

/// Long enough for a program to be started, and for its child.
const STARTED: Duration = Duration::from_secs(1);
/// What does not happen within it does not happen.
const GIVE_UP: Duration = Duration::from_secs(20);

fn runs(command: &[&str], timeout: Duration) -> Question {
    let backend: SocketAddr = "10.0.0.11:8080".parse().unwrap();
    let mut question = question("exec,command=/bin/true", backend, timeout);
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    question.check.kind = Kind::Exec(ExecCheck { command });
    question
}

fn shell(script: &str, timeout: Duration) -> Question {
    runs(&["/bin/sh", "-c", script], timeout)
}

async fn says(script: &str) -> String {
    asked(&shell(script, PATIENT)).await
}

/// Processes of this machine with that word in their command line.
fn processes(word: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read_to_string(entry.path().join("cmdline")).ok())
        .filter(|command| command.contains(word))
        .collect()
}

/// Children of this process that ended and that nobody asked about.
fn zombies() -> usize {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    let ours = format!("Z {}", std::process::id());
    stats.filter(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(&ours))).count()
}

async fn comes_true(is_so: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < GIVE_UP {
        if is_so() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn the_exit_status_decides_and_the_first_line_says_why() {
    assert_eq!(says("echo well").await, "good: exit status 0");
    assert_eq!(says("exit 2").await, "bad: exit status 2");
    assert_eq!(says("echo; echo disk full >&2; echo more; exit 2").await, "bad: exit status 2: disk full");
    assert_eq!(says("echo ow; kill -9 $$").await, "bad: killed by signal 9: ow");
    assert_eq!(says(r"printf '\033[31mred\n'; exit 1").await, r"bad: exit status 1: \u{1b}[31mred");
}

#[tokio::test]
async fn one_that_says_a_lot_is_not_held_up() {
    let much = "head -c 1000000 /dev/zero | tr '\\0' 'x'; exit 3";
    let said = says(much).await;
    assert_eq!((said.len(), &said[..23]), ("bad: exit status 3: ".len() + 200, "bad: exit status 3: xxx"));
}

#[tokio::test]
async fn a_program_is_told_what_to_look_at_and_nothing_else() {
    let told = "PATH=/usr/sbin:/usr/bin:/sbin:/bin PEN_VIP=10.0.0.100 PEN_PORT=80 PEN_PROTOCOL=tcp \
                PEN_BACKEND=10.0.0.11 PEN_BACKEND_PORT=8080";
    let mut wanted: Vec<&str> = told.split(' ').collect();
    wanted.sort_unstable();
    let env =
        asked(&shell("/usr/bin/env -u PWD -u _ -u SHLVL -u OLDPWD | sort | tr '\\n' ' '; exit 1", PATIENT))
            .await;
    assert_eq!(env, format!("bad: exit status 1: {}", wanted.join(" ")));
    assert_eq!(says("pwd; exit 1").await, "bad: exit status 1: /");
    assert_eq!(says("cat; echo nothing to read; exit 1").await, "bad: exit status 1: nothing to read");
    assert_eq!(asked(&runs(&["/bin/echo", "$HOME", "a b"], PATIENT)).await, "good: exit status 0");
}

#[test]
fn an_every_port_service_and_a_unix_socket_have_no_port() {
    let mut question = shell("", PATIENT);
    question.service = "[fd00::1]:*/udp".parse().unwrap();
    question.backend = std::net::IpAddr::from([10, 0, 0, 11]).into();
    let told = environment(&question);
    let has = |name, value: &str| told.contains(&(name, value.to_owned()));
    assert!(has("PEN_VIP", "fd00::1") && has("PEN_PORT", "*") && has("PEN_PROTOCOL", "udp"), "{told:?}");
    assert!(has("PEN_BACKEND", "10.0.0.11") && has("PEN_BACKEND_PORT", "*"), "{told:?}");
    question.backend = "/run/app.sock".parse().unwrap();
    let told = environment(&question);
    assert!(told.contains(&("PEN_BACKEND", "/run/app.sock".into())), "{told:?}");
    assert!(!told.iter().any(|(name, _)| *name == "PEN_BACKEND_PORT"), "{told:?}");
}

/// Descriptors of this process that whoever started it left open for every program.
#[cfg(target_os = "linux")]
fn left_open() -> Vec<u32> {
    let numbers = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let stays = |number: &u32| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        // O_CLOEXEC
        flags
            .and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok())
            .is_some_and(|flags| flags & 0o2000000 == 0)
    };
    let mut all: Vec<u32> = numbers.filter(stays).chain([0, 1, 2]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_has_no_files_of_ours_and_no_signals_ignored_or_blocked() {
    let _held =
        (std::fs::File::open("/proc/self/stat").unwrap(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let wanted: Vec<String> = left_open().iter().map(u32::to_string).collect();
    let files = "n=0; while [ $n -lt 256 ]; do [ -e /proc/$$/fd/$n ] && all=\"$all $n\"; n=$((n+1)); done; echo $all; exit 1";
    assert_eq!(says(files).await, format!("bad: exit status 1: {}", wanted.join(" ")));
    // SIGPIPE, which Rust ignores, is 0x1000; signals 32 and 33 (0x180000000) are the C library's own.
    let signals = says("grep -cE 'Sig(Blk|Ign).*0{7}(00|18)0{7}$' /proc/self/status; exit 1").await;
    assert_eq!(signals, "bad: exit status 1: 2");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_its_children_and_asked_about() {
    let script = "sleep 986543 & sleep 986543; true";
    assert_eq!(asked(&shell(script, STARTED)).await, "bad: no answer within 1 s");
    assert!(comes_true(|| processes("986543").is_empty()).await, "{:?}", processes("986543"));
    assert!(comes_true(|| zombies() == 0).await);
}

#[tokio::test]
async fn what_a_program_leaves_behind_is_killed_and_not_waited_for() {
    assert_eq!(says("sleep 986544 & echo started; exit 1").await, "bad: exit status 1: started");
    assert!(comes_true(|| processes("986544").is_empty()).await);
}

#[tokio::test]
async fn a_check_that_is_given_up_leaves_nothing_running() {
    let question = shell("sleep 986545 & sleep 986545; true", PATIENT);
    let checking = crate::background::Background::spawn(async move {
        asked(&question).await;
    });
    assert!(comes_true(|| processes("986545").len() >= 3).await, "it was not started");
    drop(checking);
    assert!(comes_true(|| processes("986545").is_empty()).await);
}

#[tokio::test]
async fn a_program_that_cannot_be_started_says_nothing_about_the_backend() {
    let missing = asked(&runs(&["/nowhere/check"], PATIENT)).await;
    assert!(missing.starts_with("unable: /nowhere/check cannot be started: No such file"), "{missing}");
    let denied = asked(&runs(&["/etc/passwd"], PATIENT)).await;
    assert!(denied.starts_with("unable: /etc/passwd cannot be started: Permission denied"), "{denied}");
}
