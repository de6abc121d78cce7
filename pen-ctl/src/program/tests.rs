//! Programs that end well, badly, late or never, and what they find and leave behind.

use std::time::Duration;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

fn shell(script: &str) -> Program {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    Program { command, environment: vec![("PEN_SERVICE", "web".into())] }
}

async fn run(script: &str) -> Ended {
    shell(script).run(b"hello\n").await.unwrap()
}

#[tokio::test]
async fn what_it_says_and_how_it_ends_is_known() {
    let ended = run("read word; echo \"heard $word\"; echo trouble >&2; exit 3").await;
    assert_eq!(ended.failure().unwrap(), "exit status 3: heard hello");
    assert_eq!(ended.said, b"heard hello\ntrouble\n");
    assert_eq!(run("exit 0").await.failure(), None);
    assert_eq!(run("kill -9 $$").await.failure().unwrap(), "killed by signal 9");
    assert_eq!(run("printf 'a\\033[31mb'; exit 1").await.failure().unwrap(), "exit status 1: a\\u{1b}[31mb");
}

#[tokio::test]
async fn its_environment_is_clean_and_it_inherits_nothing() {
    let held = tempfile::NamedTempFile::new().unwrap();
    let ended = run("env; pwd; ls -l /proc/self/fd").await;
    let said = String::from_utf8(ended.said).unwrap();
    assert!(!said.contains(&*held.path().to_string_lossy()), "{said}");
    let mut lines: Vec<_> = said.lines().filter(|line| line.starts_with('/') || line.contains('=')).collect();
    lines.retain(|line| !line.starts_with("_=") && !line.starts_with("SHLVL="));
    lines.sort_unstable();
    assert_eq!(lines, ["/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PEN_SERVICE=web", "PWD=/"]);
}

#[tokio::test]
async fn one_that_says_very_much_is_not_held_up() {
    let ended = run("yes | head -c 1000000").await;
    assert_eq!((ended.failure(), ended.said.len()), (None, KEPT));
}

/// Whether a process is there and has not ended.
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

async fn await_end(pid: &str) {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    while lives(pid) {
        assert!(tokio::time::Instant::now() < give_up, "{pid} is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A script that writes down its own number and that of one it starts, and then hangs.
fn hangs(dir: &tempfile::TempDir) -> (Program, impl AsyncFn() -> Vec<String>) {
    let path = dir.path().join("pids");
    let shown = path.display().to_string();
    let program = shell(&format!("sleep 1000 & echo $$ $! > {shown}.new; mv {shown}.new {shown}; wait"));
    let pids = async move || loop {
        match std::fs::read_to_string(&path) {
            Ok(text) => break text.split_whitespace().map(str::to_owned).collect(),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    (program, pids)
}

#[tokio::test]
async fn one_that_takes_too_long_is_killed_with_what_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let (program, pids) = hangs(&dir);
    assert!(tokio::time::timeout(Duration::from_millis(500), program.run(b"")).await.is_err());
    for pid in pids().await {
        await_end(&pid).await;
    }
}

#[tokio::test]
async fn one_that_nobody_waits_for_any_more_is_killed_too() {
    let dir = tempfile::tempdir().unwrap();
    let (program, pids) = hangs(&dir);
    let task = tokio::spawn(async move { program.run(b"").await });
    let pids = pids().await;
    task.abort();
    for pid in pids {
        await_end(&pid).await;
    }
}

#[tokio::test]
async fn what_it_leaves_in_the_background_neither_delays_it_nor_stays() {
    let ended = run("sleep 1000 & echo $!").await;
    assert_eq!(ended.failure(), None);
    await_end(&excerpt(&ended.said)).await;
}

#[tokio::test]
async fn its_number_is_nobody_elses_while_its_group_is_killed() {
    let mut running = shell("sleep 1000 & exit 3").start(true).unwrap();
    let leader = running.group.0.unwrap();
    platform::ended(&mut running.child, &mut running.ends).await;
    assert!(rustix::process::test_kill_process(leader).is_ok(), "it has ended, and is not reaped");
    assert_eq!(running.end(b"").await.unwrap().failure().unwrap(), "exit status 3");
    assert!(rustix::process::test_kill_process(leader).is_err(), "nothing of it is left");
}

#[tokio::test]
async fn many_that_end_at_once_are_all_heard() {
    let mut all: Vec<_> = (0..50).map(|_| tokio::spawn(async { run("exit 0").await.failure() })).collect();
    for one in all.drain(..) {
        assert_eq!(tokio::time::timeout(PATIENCE, one).await.unwrap().unwrap(), None);
    }
}

#[tokio::test]
async fn one_that_is_not_there_is_not_started() {
    let program = Program { command: vec!["/nonexistent/check".into()], environment: Vec::new() };
    let error = program.run(b"").await.unwrap_err().to_string();
    assert_eq!(error, "No such file or directory (os error 2)");
}
