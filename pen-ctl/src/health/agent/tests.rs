//! What agents say, what sticks, and small agents on loopback.

use proptest::prelude::*;

use super::*;
use crate::health::testing::{BRIEF, PATIENT, asked, nobody, question, stream};

/// What comes of lines that are heard one after the other.
fn after(lines: &[&str]) -> Result<Answer, Failed> {
    let mut standing = Standing::default();
    for line in lines {
        standing.hear(Said::read(line.as_bytes())?);
    }
    standing.outcome()
}

fn up(what: &str, weight: Option<u16>, drain: bool) -> Result<Answer, Failed> {
    Ok(Answer { what: format!("agent says {what}"), advice: Some(Advice { weight, drain }) })
}

fn held(why: &str, weight: Option<u16>, drain: bool) -> Result<Answer, Failed> {
    let planned = !why.starts_with("fail");
    Err(Failed::Agent(format!("agent says {why}"), Held { advice: Advice { weight, drain }, planned }))
}

#[test]
fn words_come_in_any_order_and_case_between_spaces_tabs_and_commas() {
    assert_eq!(after(&["up"]), up("up", None, false));
    assert_eq!(after(&[" 75%,\tUP maxconn:30"]), up("up, 75%", Some(75), false));
    assert_eq!(after(&["Drain 50%"]), up("drain, 50%", Some(50), true));
    assert_eq!(after(&["0%"]), up("up, 0%", Some(0), false));
    assert_eq!(after(&["100000000000%"]), up("up, 25600%", Some(25_600), false));
    assert_eq!(after(&["75%,maxconn:30,maint,down"]), held("maint", Some(75), false));
    assert_eq!(after(&["75%,\tdown"]), held("down", Some(75), false));
    assert_eq!(after(&["up\t50%\tdrain"]), up("drain, 50%", Some(50), true));
    assert_eq!(after(&["down\t#\tfull"]), held("down: full", None, false));
}

#[test]
fn words_count_wherever_they_stand_in_a_long_line() {
    let line = format!("up {} drain # {}", "maxconn:30 ".repeat(30), "x".repeat(3000));
    assert_eq!(after(&[&line]), up("drain", None, true));
    let long = format!("down # {}", "x".repeat(3000));
    let Err(Failed::Agent(why, _)) = after(&[&long]) else { panic!("not down") };
    assert!(why.starts_with("agent says down: xxx") && why.len() < 300, "{why}");
}

#[test]
fn what_is_for_people_becomes_the_reason() {
    assert_eq!(after(&["down # the disk, #1, is full"]), held("down: the disk, #1, is full", None, false));
    assert_eq!(after(&["down#full"]), held("down: full", None, false));
    assert_eq!(after(&["stopped by the operator"]), held("stopped: by the operator", None, false));
    assert_eq!(after(&["failed"]), held("failed", None, false));
    assert_eq!(after(&["maint # until noon"]), held("maint: until noon", None, false));
    assert_eq!(after(&["up # and well"]), up("up", None, false));
}

#[test]
fn what_is_not_said_again_stays() {
    assert_eq!(after(&["50%", "up"]), up("up, 50%", Some(50), false));
    assert_eq!(after(&["drain", "75%", "up"]), up("drain, 75%", Some(75), true));
    assert_eq!(after(&["drain", "ready"]), up("up", None, false));
    assert_eq!(after(&["maint # noon", "up 10%"]), held("maint: noon", Some(10), false));
    assert_eq!(after(&["maint", "ready"]), up("up", None, false));
    assert_eq!(after(&["down # full", "40%"]), held("down: full", Some(40), false));
    assert_eq!(after(&["down # full", "ready"]), held("down: full", None, false), "only `up` brings it up");
    assert_eq!(after(&["down", "drain", "up"]), up("drain", None, true));
}

#[test]
fn only_whoever_fails_is_not_down_as_planned() {
    let planned = |lines: &[&str]| match after(lines) {
        Err(Failed::Agent(_, held)) => held.planned,
        other => panic!("{other:?}"),
    };
    assert!([&["maint"], &["down"], &["stopped # by the operator"]].into_iter().all(|lines| planned(lines)));
    assert!(![&["fail"], &["failed # disk"]].into_iter().any(|lines| planned(lines)));
    assert!(planned(&["failed # disk", "maint # a new disk"]), "somebody is at work");
}

#[test]
fn what_is_not_an_agents_is_named() {
    let bad = |line: &str| match Said::read(line.as_bytes()) {
        Err(Failed::Answer(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(bad(""), "its agent says nothing");
    assert_eq!(bad("SSH-2.0-OpenSSH_10.0"), "not the words of an agent: SSH-2.0-OpenSSH_10.0");
    assert_eq!(bad("75"), "not the words of an agent: 75");
    assert_eq!(bad("-5% # up"), "not the words of an agent: -5% # up");
}

proptest! {
    #[test]
    fn no_line_does_harm_and_no_share_is_above_the_most(
        lines in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "((up|down|ready|drain|maint|[0-9]{1,9}%|#|x)[ ,]?){0,6}".prop_map(String::into_bytes),
            ],
            0..6,
        ),
    ) {
        let mut standing = Standing::default();
        for line in lines {
            if let Ok(said) = Said::read(&line) {
                standing.hear(said);
            }
            let advice = match standing.outcome() {
                Ok(answer) => answer.advice.unwrap(),
                Err(Failed::Agent(_, held)) => held.advice,
                other => panic!("{other:?}"),
            };
            prop_assert!(advice.weight.is_none_or(|percent| percent <= MOST));
        }
    }
}

/// What comes of asking an agent that says so, once it was told `hello`, and then closes the connection or keeps it.
async fn says(line: &str, keeps: bool) -> String {
    let (agent, _serving) = stream(5, line.into(), keeps).await;
    asked(&question("agent,port=9,send=hello", agent, if line.is_empty() { BRIEF } else { PATIENT })).await
}

#[tokio::test]
async fn a_line_ends_with_its_end_or_the_connections() {
    assert_eq!(says("75% up\n", true).await, "good: agent says up, 75%");
    assert_eq!(says("drain\r\nnonsense", true).await, "good: agent says drain");
    assert_eq!(says("stopped # gone", false).await, "bad: agent says stopped: gone");
    assert_eq!(says(&"x".repeat(LONGEST), true).await.len(), "bad: not the words of an agent: ".len() + 200);
}

#[tokio::test]
async fn an_agent_that_is_silent_or_not_there_is_a_failure() {
    assert_eq!(says("", true).await, "bad: no answer within 200 ms");
    assert_eq!(asked(&question("agent,port=9", nobody(), PATIENT)).await, "bad: connection refused");
    let (agent, _serving) = stream(0, Vec::new(), false).await;
    assert_eq!(asked(&question("agent,port=9", agent, PATIENT)).await, "bad: its agent says nothing");
}

#[tokio::test]
async fn a_check_remembers_what_it_was_told() {
    let (first, _serving) = stream(0, b"drain 30%\n".to_vec(), false).await;
    let (second, _serving) = stream(0, b"up\n".to_vec(), false).await;
    let question = question("agent,port=9", first, PATIENT);
    assert_eq!(asked(&question).await, "good: agent says drain, 30%");
    assert_eq!(asked(&Question { backend: second.into(), ..question }).await, "good: agent says drain, 30%");
}
