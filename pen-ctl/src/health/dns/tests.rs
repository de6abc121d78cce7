//! Against small name servers on loopback.

use hickory_proto::rr::rdata::{A, MX, NS, TXT, opt::OPT};
use hickory_proto::rr::{Name, Record};
use proptest::prelude::*;

use super::*;
use crate::health::testing::{BRIEF, PATIENT, asked, datagrams, nobody, question, stream};

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// A whole answer to a question.
fn answer(question: &[u8], code: ResponseCode, records: Vec<RData>) -> Message {
    let question = Message::from_vec(question).unwrap();
    assert!(question.metadata.recursion_desired);
    let mut answer = Message::error_msg(question.metadata.id, OpCode::Query, code);
    answer.add_queries(question.queries.iter().cloned());
    answer.add_answers(records.into_iter().map(|data| Record::from_rdata(name("example.com."), 60, data)));
    answer
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap()
}

fn address(last: u8) -> RData {
    RData::A(A::new(192, 0, 2, last))
}

/// What comes of a check of a server that answers so, over UDP.
async fn udp(check: &str, behave: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> String {
    let (server, _serving) = datagrams(behave).await;
    asked(&question(&format!("dns,transport=udp,{check}"), server, PATIENT)).await
}

#[tokio::test]
async fn any_answer_is_good_but_servfail_unless_a_code_is_asked_for() {
    let says = async |check: &'static str, code| {
        udp(check, move |asked| vec![bytes(&answer(asked, code, vec![]))]).await
    };
    assert_eq!(says("rise=1", ResponseCode::NoError).await, "good: DNS NOERROR");
    assert_eq!(says("rise=1", ResponseCode::Refused).await, "good: DNS REFUSED");
    assert_eq!(says("rise=1", ResponseCode::ServFail).await, "bad: DNS SERVFAIL");
    let noerror = "name=example.com,type=A,rcode=noerror";
    assert_eq!(says(noerror, ResponseCode::NXDomain).await, "bad: DNS NXDOMAIN, expected NOERROR");
    assert_eq!(says("rcode=SERVFAIL", ResponseCode::ServFail).await, "good: DNS SERVFAIL");
}

#[tokio::test]
async fn one_of_the_answers_must_be_as_asked_however_it_is_written() {
    let says = async |wanted: &str, records: Vec<RData>| {
        let check = format!("name=example.com,type=A,answer={wanted}");
        udp(&check, move |asked| vec![bytes(&answer(asked, ResponseCode::NoError, records.clone()))]).await
    };
    assert_eq!(says("192.0.2.1", vec![address(9), address(1)]).await, "good: DNS NOERROR");
    assert_eq!(says("192.0.2.1", vec![address(9)]).await, "bad: no answer is 192.0.2.1");
    assert_eq!(says("192.0.2.1", vec![]).await, "bad: no answer is 192.0.2.1");
    let server = || vec![RData::NS(NS(name("NS1.xn--mnchen-3ya.example.")))];
    assert_eq!(says("ns1.xn--mnchen-3ya.example", server()).await, "good: DNS NOERROR");
    assert_eq!(says("ns1.xn--mnchen-3ya.example.", server()).await, "good: DNS NOERROR");
    let mail = || vec![RData::MX(MX::new(10, name("mail.example.com.")))];
    assert_eq!(says("10 mail.example.com", mail()).await, "good: DNS NOERROR");
    let text = || vec![RData::TXT(TXT::new(vec!["v=spf1 -all".into()]))];
    assert_eq!(says("\"v=spf1 -all\"", text()).await, "good: DNS NOERROR");
}

#[test]
fn a_record_that_cannot_be_written_is_nobodys_answer() {
    assert_eq!(presented(&RData::OPT(OPT::default())), "");
}

#[tokio::test]
async fn an_answer_that_was_cut_counts_unless_it_had_to_say_something() {
    let cut = |asked: &[u8]| vec![bytes(&answer(asked, ResponseCode::NoError, vec![address(1)]).truncate())];
    assert_eq!(udp("name=example.com", cut).await, "good: DNS NOERROR");
    let said = udp("name=example.com,type=A,answer=192.0.2.1", cut).await;
    assert_eq!(said, "bad: no answer is 192.0.2.1: too long for UDP, ask over TCP (transport=tcp)");
}

#[tokio::test]
async fn one_lost_datagram_is_no_failure() {
    let mut count = 0;
    let (server, _serving) = datagrams(move |asked| {
        count += 1;
        let answer = bytes(&answer(asked, ResponseCode::NoError, vec![]));
        if count == 1 { vec![] } else { vec![answer] }
    })
    .await;
    let question = question("dns,transport=udp", server, Duration::from_secs(2));
    assert_eq!(asked(&question).await, "good: DNS NOERROR");
}

#[tokio::test]
async fn what_belongs_to_another_question_does_not_count() {
    let other = |asked: &[u8]| {
        let mut other = answer(asked, ResponseCode::ServFail, vec![]);
        other.metadata.id ^= 1;
        bytes(&other)
    };
    let both = move |asked: &[u8]| vec![other(asked), bytes(&answer(asked, ResponseCode::NoError, vec![]))];
    assert_eq!(udp("rise=1", both).await, "good: DNS NOERROR");
    let (server, _serving) = datagrams(move |asked| vec![other(asked)]).await;
    let question = question("dns,transport=udp", server, BRIEF);
    assert_eq!(asked(&question).await, "bad: not DNS: another question's answer");
}

#[tokio::test]
async fn what_is_no_answer_is_named() {
    let back = udp("rise=1", |asked| vec![asked.to_vec()]).await;
    assert_eq!(back, "bad: not DNS: the question came back");
    let other_name = udp("name=example.com", |asked| {
        let mut answer = answer(asked, ResponseCode::NoError, vec![]);
        answer.queries[0].name = name("example.org.");
        vec![bytes(&answer)]
    });
    assert_eq!(other_name.await, "bad: not DNS: another question's answer");
    let (server, _serving) = datagrams(|_| vec![b"hello".to_vec()]).await;
    let garbage = asked(&question("dns,transport=udp", server, BRIEF)).await;
    assert!(garbage.starts_with("bad: not DNS: "), "{garbage}");
}

#[tokio::test]
async fn silence_and_refusals_are_named() {
    let (server, _serving) = datagrams(|_| vec![]).await;
    let silent = asked(&question("dns,transport=udp", server, BRIEF)).await;
    assert_eq!(silent, "bad: no answer within 200 ms");
    let closed = nobody();
    assert_eq!(asked(&question("dns,transport=udp", closed, PATIENT)).await, "bad: port unreachable");
    assert_eq!(asked(&question("dns,transport=tcp", closed, PATIENT)).await, "bad: connection refused");
}

/// What comes of a check of a server that answers so, over TCP; the service's protocol says that it is TCP.
async fn tcp(behave: impl FnOnce(Vec<u8>) -> Vec<u8> + Send + 'static, timeout: Duration) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serve = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut asked = vec![0; usize::from(length)];
        stream.read_exact(&mut asked).await.unwrap();
        stream.write_all(&behave(asked)).await.unwrap();
        let _ = stream.read_u8().await;
    };
    let _serving = crate::background::Background::spawn(serve);
    asked(&question("dns,name=example.com,type=A,answer=192.0.2.1", address, timeout)).await
}

#[tokio::test]
async fn over_tcp_a_length_comes_first() {
    let good = |asked: Vec<u8>| {
        let answer = bytes(&answer(&asked, ResponseCode::NoError, vec![address(1)]));
        [&(answer.len() as u16).to_be_bytes()[..], &answer].concat()
    };
    assert_eq!(tcp(good, PATIENT).await, "good: DNS NOERROR");
    let half = move |asked: Vec<u8>| good(asked)[..20].to_vec();
    assert_eq!(tcp(half, BRIEF).await, "bad: no answer within 200 ms");
    let empty = tcp(|_| vec![0, 0], PATIENT).await;
    assert!(empty.starts_with("bad: not DNS: "), "{empty}");
    let long = tcp(|_| vec![0xff; 0x1_0001], PATIENT).await;
    assert_eq!(long, "bad: an answer of 65535 bytes, more than 16384");
    let (server, _serving) = stream(2, vec![0, 40, 1], false).await;
    let closed = asked(&question("dns,transport=tcp", server, PATIENT)).await;
    let ends = ["bad: connection closed before an answer was whole", "bad: connection reset"];
    assert!(ends.contains(&closed.as_str()), "{closed}");
}

proptest! {
    /// A wrong server can do no harm.
    #[test]
    fn whatever_comes_is_judged(
        mut wire in proptest::collection::vec(any::<u8>(), 12..120),
        header in any::<bool>(),
        wanted in "[ -~]{0,20}",
    ) {
        let dns = DnsCheck { answer: Some(wanted), ..DnsCheck::default() };
        let asked = Asked::new(&dns).unwrap();
        if header {
            // One question, the right one, one answer.
            wire.splice(..12, [&asked.id.to_be_bytes()[..], &[0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 1]].concat());
        }
        if let Ok(answer) = asked.answer(&wire) {
            let _ = judge(&answer, &dns);
        }
    }
}
