//! SMTP checks against small servers.

use super::*;
use crate::health::testing::staged::{Server, Step, asked, hear, say};
use crate::health::tls::tests::Authority;

const BANNER: &str = "220 mx.example.com ESMTP\r\n";
const OFFER: &str = "250-mx.example.com\r\n250-SIZE 1000\r\n250 STARTTLS\r\n";

/// What is said at first, in answer to EHLO, and in answer to QUIT.
async fn server(banner: &str, hello: &str, quit: &str) -> Server {
    let talk = vec![say(banner), hear("\r\n"), say(hello), hear("QUIT\r\n"), say(quit)];
    Server::start(talk).await
}

async fn refused(banner: &str, hello: &str) -> String {
    let server = server(banner, hello, "221 bye\r\n").await;
    asked(&server, "smtp").await.unwrap_err()
}

#[tokio::test]
async fn a_talk_is_begun_and_ended() {
    let server =
        server("220-mx.example.com\r\n220 ESMTP\r\n", "250-mx\r\n250-SIZE\r\n250 X\r\n", "221\r\n").await;
    assert_eq!(asked(&server, "smtp,helo=pen.example.com").await.unwrap(), "SMTP 250");
    assert_eq!(server.heard(), "EHLO pen.example.com\r\nQUIT\r\n");
}

#[tokio::test]
async fn a_missing_farewell_is_no_failure_and_a_refusal_is() {
    let closes = server(BANNER, "250 mx\r\n", "").await;
    assert_eq!(asked(&closes, "smtp").await.unwrap(), "SMTP 250");
    let stays = vec![say(BANNER), hear("\r\n"), say("250 mx\r\n"), hear("QUIT\r\n"), Step::Stay];
    let stays = Server::start(stays).await;
    assert_eq!(asked(&stays, "smtp").await.unwrap(), "SMTP 250");
    let refuses = server(BANNER, "250 mx\r\n", "421 going down\r\n").await;
    assert_eq!(asked(&refuses, "smtp").await.unwrap_err(), "SMTP 421 going down");
}

#[tokio::test]
async fn a_refusal_is_told_with_its_text_in_one_line() {
    assert_eq!(refused("421 too busy\r\n", "").await, "SMTP 421 too busy");
    assert_eq!(refused("554-\r\n554 no mail here\r\n", "").await, "SMTP 554 no mail here");
    assert_eq!(refused(BANNER, "502\r\n").await, "SMTP 502");
    assert_eq!(refused("450 don't\x1b[2J\tcome\r\n", "").await, r"SMTP 450 don't\u{1b}[2J\tcome");
    assert_eq!(refused("354 go on\r\n", "").await, "SMTP 354 go on, expected 220");
    assert_eq!(refused(BANNER, "220 mx\r\n").await, "SMTP 220 mx, expected 250");
    let long = refused(&format!("421 {}\r\n", "ü".repeat(200)), "").await;
    assert_eq!(long, format!("SMTP 421 {}", "ü".repeat(50)));
}

#[tokio::test]
async fn what_is_not_smtp_is_said_to_be_none_and_ends_somewhere() {
    assert_eq!(refused("SSH-2.0-OpenSSH\r\n", "").await, "not SMTP: \"SSH-2.0-OpenSSH\"");
    for wrong in ["220_mx\r\n", "99 mx\r\n", "999 mx\r\n", "\r\n", "\0\0\r\n"] {
        let why = refused(wrong, "").await;
        assert!(why.starts_with("not SMTP: "), "{why}");
    }
    let endless = Server::start(vec![Step::Drip("220-mx\r\n220-mx\r\n220-mx\r\n220-mx\r\n220-mx\r\n")]).await;
    assert_eq!(asked(&endless, "smtp").await.unwrap_err(), "not SMTP: a reply of more than 100 lines");
    let line = Server::start(vec![say("2".repeat(5000)), Step::Stay]).await;
    assert_eq!(asked(&line, "smtp").await.unwrap_err(), format!("not SMTP: \"{}\"", "2".repeat(100)));
}

#[tokio::test]
async fn silence_and_an_early_end_are_told() {
    let closed = Server::start(vec![say("220-mx\r\n220")]).await;
    assert_eq!(asked(&closed, "smtp").await.unwrap_err(), "connection closed before an answer was whole");
    let silent = Server::start(vec![say(BANNER), Step::Stay]).await;
    assert_eq!(asked(&silent, "smtp,timeout=200ms").await.unwrap_err(), "no answer within 200 ms");
    let slow = Server::start(vec![say("2"), Step::Pause, say("20 mx\r\n"), hear("\r\n"), say("250 mx\r\n")]);
    assert_eq!(asked(&slow.await, "smtp").await.unwrap(), "SMTP 250");
}

fn with_tls(tls: Step, before: &str) -> Vec<Step> {
    let offer = [say(BANNER), hear("\r\n"), say(OFFER), hear("STARTTLS\r\n")];
    let protected = [hear("\r\n"), say("250 mx\r\n"), hear("QUIT\r\n"), say("221 bye\r\n")];
    [&offer as &[_], &[say(before), tls], &protected].concat()
}

#[tokio::test]
async fn with_starttls_the_certificate_counts_and_ehlo_is_said_again() {
    let authority = Authority::new();
    let server = Server::start(with_tls(authority.server(&["mx.example.com"]), "220 go ahead\r\n")).await;
    let check = |name: &str| format!("smtp,helo=pen,starttls=true,sni={name},ca={}", authority.file());
    assert_eq!(asked(&server, &check("mx.example.com")).await.unwrap(), "SMTP 250 after STARTTLS");
    assert_eq!(server.heard(), "EHLO pen\r\nSTARTTLS\r\nEHLO pen\r\nQUIT\r\n");
    assert_eq!(
        asked(&server, &check("mail.example.com")).await.unwrap_err(),
        "certificate is for mx.example.com, not mail.example.com"
    );
}

#[tokio::test]
async fn starttls_must_be_offered_taken_and_not_preceded() {
    let check = "smtp,starttls=true,verify=false";
    let without = server(BANNER, "250-STARTTLS.example.com\r\n250 SIZE\r\n", "").await;
    assert_eq!(asked(&without, check).await.unwrap_err(), "SMTP: STARTTLS is not offered");
    let tls = Authority::new().server(&["mx"]);
    let refuses = Server::start(with_tls(tls.clone(), "454 not now\r\n")).await;
    assert_eq!(asked(&refuses, check).await.unwrap_err(), "SMTP 454 not now");
    let injected = Server::start(with_tls(tls, "220 go ahead\r\n250 all is well\r\n")).await;
    assert_eq!(asked(&injected, check).await.unwrap_err(), "SMTP: more than an answer came before TLS");
}

#[test]
fn a_host_is_called_by_its_name_if_that_is_one() {
    assert!(is_name("lb1") && is_name("lb1.example.com"));
    for wrong in ["", "localhost", "(none)", "lb_1", "-lb", "lb.", "lb 1"] {
        assert!(!is_name(wrong), "{wrong}");
    }
}
