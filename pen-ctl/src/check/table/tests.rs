//! Forms in which checks are written, and what is refused.

use std::collections::BTreeMap;

use super::*;

fn read(text: &str) -> Health {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn short_and_long_forms_say_the_same() {
    for short in [
        "none",
        "tcp",
        "tcp,interval=2s,timeout=100ms,rise=1,fall=5,port=81,jitter=0,max_hold=0s",
        "tcp,way=dsr",
        "https,way=direct,path=/x",
        "http,path=/healthz,method=HEAD,status=200 204,host=www.example.com,body=ok",
        "https,verify=false,sni=www.example.com,ca=/etc/ssl/own.pem",
        "dns,name=example.com,type=SOA,rcode=NOERROR,answer=ns1.example.com.,transport=tcp",
        "smtp,helo=pen.example.com,starttls=true,verify=false",
        r"udp,send=ping\r\n,expect=\x00pong",
        "icmp",
        "exec,command=/usr/local/bin/check --fast",
        r"agent,port=9000,send=hello\n",
    ] {
        let health = read(short);
        let json = serde_json::to_string(&health).unwrap();
        assert_eq!(serde_json::from_str::<Health>(&json).unwrap(), health, "{json}");
    }
    assert_eq!(read("tcp,path=direct"), read("tcp,way=direct"));
    assert_eq!(read("http,path=dsr,path=/healthz"), read("http,way=dsr,path=/healthz"));
    assert_eq!(read("tcp"), Health::of(Kind::Tcp));
    assert_eq!(serde_json::from_str::<Health>("\"none\"").unwrap(), Health::None);
    assert_eq!(read("tcp,interval=100ms").check().unwrap().pace.timeout, Duration::from_millis(100));
}

#[test]
fn a_key_that_would_be_without_effect_is_refused() {
    let refused = |text: &str| text.parse::<Health>().unwrap_err().0;
    assert!(refused("ping-pong").contains("unknown"));
    assert!(refused("none,rise=3").contains("takes no other keys"));
    assert!(refused("tcp,path=/").contains("takes no key `path`"));
    assert!(refused("http,verify=true").contains("takes no key `verify`"));
    assert!(refused("smtp,verify=true").contains("starttls"));
    assert!(refused("tcp,speed=1").contains("takes no key `speed`"));
    for wrong in [
        "tcp,port=70000",
        "tcp,port=x",
        "tcp,rise=0",
        "https,verify=yes",
        "http,status=ok",
        "tcp,jitter=51",
        "tcp,way=straight",
        "tcp,path=dsr,way=direct",
    ] {
        assert!(wrong.parse::<Health>().is_err(), "{wrong}");
    }
}

#[test]
fn one_status_may_be_a_number() {
    let of = |text: &str| toml::from_str::<BTreeMap<String, Health>>(text).unwrap()["health"].clone();
    let number = of("health = { kind = 'http', status = 200 }");
    assert_eq!(number, read("http,status=200"));
    let wrong = toml::from_str::<BTreeMap<String, Health>>("health = { kind = 'http', status = [200] }");
    assert!(
        wrong.unwrap_err().message().contains("expected a status such as 200, or several as \"200-399\"")
    );
}
