//! Against servers on loopback that answer, say something else, say nothing, or are not there.

use crate::health::testing::{BRIEF, PATIENT, asked, datagrams, nobody, question};

#[tokio::test]
async fn an_answer_must_hold_what_is_expected() {
    let (server, _serving) = datagrams(|asked| vec![[asked, b" pong\0"].concat()]).await;
    let says = async |check: &str| asked(&question(check, server, PATIENT)).await;
    assert_eq!(says(r"udp,send=ping,expect=ping pong\x00").await, "good: answered as expected");
    assert_eq!(says(r"udp,send=\x01ping,expect=pang\n").await, r#"bad: answer does not hold "pang\n""#);
    assert_eq!(says("udp").await, "good: answered", "whatever it says, and be it to nothing");
}

#[tokio::test]
async fn silence_is_good_only_where_nothing_is_expected() {
    let (server, _serving) = datagrams(|_| vec![]).await;
    assert_eq!(asked(&question("udp", server, BRIEF)).await, "good: not refused");
    let expects = asked(&question("udp,expect=pong", server, BRIEF)).await;
    assert_eq!(expects, "bad: no answer within 200 ms");
}

#[tokio::test]
async fn a_closed_port_is_bad_whatever_is_expected() {
    let closed = nobody();
    assert_eq!(asked(&question("udp", closed, PATIENT)).await, "bad: port unreachable");
    assert_eq!(asked(&question("udp,expect=pong", closed, PATIENT)).await, "bad: port unreachable");
}

#[cfg(target_os = "linux")]
#[test]
fn a_router_that_cannot_reach_it_is_heard() {
    use crate::health::testing::{UNREACHABLE, router};
    let Some(net) = router() else { return };
    net.in_balancer(async || {
        for (address, why) in UNREACHABLE {
            let endpoint = (address.parse::<std::net::IpAddr>().unwrap(), 53).into();
            assert_eq!(asked(&question("udp", endpoint, PATIENT)).await, why);
        }
    });
}
