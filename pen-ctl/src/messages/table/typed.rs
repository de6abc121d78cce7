//! Words that are not what they should be: addresses, times, kinds, numbers.

use super::super::stage::Stage;
use super::super::{Row, refused};
use crate::dataplane::{Kind, UnixPath};
use crate::server::tcp;

pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    let all = [addresses(stage), times_and_kinds(stage), rate_limits(stage), json(stage), commands(stage)];
    all.into_iter().flatten().collect()
}

fn addresses(stage: &Stage) -> Vec<Row> {
    let vip = |text: &'static str, what| {
        stage.typed(
            &format!("service add x {text}"),
            what,
            format!("service x: vip: `{text}`"),
            "write VIP:PORT/PROTO, for example",
        )
    };
    let backend = |text: &str, what| {
        let on = format!("backend address `{text}`");
        stage.typed(&format!("backend add web {text}"), what, on, "write it as 10.0.0.11")
    };
    let unix = |text: &str, what| {
        let on = format!("`{}` is not the path", text.escape_debug());
        refused(text.parse::<UnixPath>(), what, on, "write it as /run/app.sock")
    };
    vec![
        vip("10.0.0.101:80", "is not a service address: no protocol"),
        vip("10.0.0.101:80/sctp", "the protocol is neither tcp nor udp"),
        vip("10.0.0.101/tcp", "no port"),
        vip("2001:db8::1:80/tcp", "the VIP is not an IP address (IPv6 goes in brackets)"),
        vip("10.0.0.101:+80/tcp", "the port is not a number"),
        vip("10.0.0.101:0/tcp", "the port is not 1–65535 or *"),
        backend("ten", "neither an IP address, with or without a port, nor the path of a Unix socket"),
        backend("10.0.0.12:0", "on port 0, which cannot be"),
        backend("[fe80::1%2]:80", "one with a zone"),
        unix("run/", "it does not start with `/`"),
        unix("/run/", "it ends with `/`"),
        unix("/run/\u{7}", "it contains a control character"),
        unix(&format!("/{}", "a".repeat(200)), "it is longer than 103 bytes"),
        stage.typed("service add x /run/x", "is a Unix socket", "VIP /run/x", "use an IP address"),
        stage.typed("backend add web 10.0.0.12:80", "has a port", "backend 10.0.0.12:80", "leave it out"),
        stage.typed(
            "backend add web 10.0.0.12 --mac 02:00",
            "is not a MAC address",
            "`02:00`",
            "write it as 02:00:00:00:00:01",
        ),
        stage.typed(
            "client show ten",
            "is not an IP address",
            "`ten`",
            "for a prefix use `client list --source`",
        ),
        stage.typed(
            "client list --source ten",
            "is neither an address nor a prefix",
            "`ten`",
            "write 192.0.2.7 or 192.0.2.0/24",
        ),
        stage.typed(
            "service set web --proxy-protocol-from 10.0.0.1/8",
            "is an address with the length of a prefix",
            "service web: proxy_protocol_from: `10.0.0.1/8`",
            "write 10.0.0.0/8 or 10.0.0.1",
        ),
        stage.typed_words(
            &["service", "set", "web", "--allow", ""],
            "names no prefix",
            "service web: --allow",
            "to take the list away write --allow none",
        ),
        stage.typed(
            "service add x 10.0.0.101:80/tcp --proxy-protocol-from ,",
            "names no prefix",
            "service x: --proxy-protocol-from",
            "to take the list away write --proxy-protocol-from none",
        ),
        stage.typed(
            "service set web --deny /etc/pen/deny.txt",
            "is neither an address nor a prefix",
            "service web: deny: `/etc/pen/deny.txt`",
            "to read them from that file write --deny @/etc/pen/deny.txt",
        ),
        stage.typed(
            "service set web --deny 10.0.0.0/8,@/etc/pen/deny.txt",
            "stands among other prefixes",
            "service web: deny: `@/etc/pen/deny.txt`",
            "give either prefixes or one @FILE",
        ),
        stage.typed(
            "service set web --allow @",
            "lacks the name of a file",
            "service web: --allow @",
            "write it as --allow @/etc/pen/prefixes.txt",
        ),
        stage.asked(
            "PATCH /v1/services/web",
            r#"{"deny":["@/etc/pen/deny.txt"]}"#,
            "only --allow and --deny on the command line read a file",
            "`@/etc/pen/deny.txt`",
            "write the prefixes themselves",
        ),
        stage.typed(
            "service set web --allow @/nonexistent/list",
            "cannot be read: No such file or directory",
            "service web: allow: /nonexistent/list",
            "give a text file that is there and readable",
        ),
        stage.typed(
            &format!("service set web --deny @{}", stage.file("# nobody\n")),
            "holds no prefix",
            "service web: deny: ",
            "write --deny none to have none",
        ),
        stage.typed(
            &format!("service set web --deny @{}", stage.file("10.0.0.0/8\nten\n")),
            "is neither an address nor a prefix",
            "pen.toml:2: `ten`",
            "write 192.0.2.7 or 192.0.2.0/24",
        ),
        stage.asked(
            "GET /v1/clients/ten",
            "",
            "is not an IP address",
            "`ten`",
            "write it as 192.0.2.7 or 2001:db8::7",
        ),
        refused(tcp::parse("9080"), "is not an IP address and port to listen on", "`9080`", "127.0.0.1:9080"),
    ]
}

fn times_and_kinds(stage: &Stage) -> Vec<Row> {
    let add = |flags: &str, what, on: &str, to_do: &'static str| {
        stage.typed(
            &format!("service add x 10.0.0.101:80/tcp {flags}"),
            what,
            format!("service x: {on}"),
            to_do,
        )
    };
    let health = |text: &str, what, to_do| add(&format!("--health {text}"), what, "health check `", to_do);
    vec![
        add("--transition soon", "is not a duration", "transition: `soon`", "write it with a unit, as 500ms"),
        add(
            "--scheduler random",
            "unknown scheduler",
            "unknown scheduler `random`",
            "use maglev, round-robin or least-connections",
        ),
        add(
            "--affinity odd",
            "unknown value `odd`",
            "affinity: ",
            "expected one of `client`, `flow`, `none`",
        ),
        add("--health ping", "unknown health check", "unknown health check `ping`", "use none, tcp, http"),
        health("none,rise=3", "`none` takes no other keys", "leave them out"),
        health("tcp,fast", "`fast` is not key=value", "as in tcp,interval=2s"),
        health("tcp,way=dsr,path=direct", "two different ways", "leave one of them out"),
        health("http,path=/a,path=/b", "`path` is said twice", "leave one of them out"),
        add(
            "--health service",
            "unknown health check",
            "unknown health check `service`",
            "leave `health` out",
        ),
        health("tcp,port=x", "port must be a number", "from 1 to 65535"),
        health("tcp,rise=0", "rise must be a number", "from 1 to 100"),
        health("tcp,speed=1", "takes no key `speed`", "it takes port, interval, timeout, rise, fall"),
        health("https,verify=yes", "verify must be true or false", "true or false"),
        health("smtp,verify=true", "takes verify, sni and ca for TLS only", "write starttls = true as well"),
        add(
            "--health http,status=ok",
            "are not statuses of HTTP",
            "health: `ok`",
            "write them as 200, 200-399",
        ),
        add(r"--health udp,send=\q", r"`\q` means nothing", r"health: `\q`", r"write a byte as \x0a"),
        stage.typed(
            "backend add web 10.0.0.12 --weight 0",
            "weight 0 is out of range",
            "backend 10.0.0.12 of service web",
            "use 1 to 1000",
        ),
        stage.asked(
            "PATCH /v1/services/web",
            r#"{"panic":101}"#,
            "panic 101 is out of range",
            "panic 101",
            "use 0 to 100",
        ),
        stage.asked(
            "PATCH /v1/services/web",
            r#"{"on_change":1}"#,
            "expected a command such as",
            "on_change: ",
            "[\"/usr/local/bin/tell\", \"-x\"]",
        ),
        refused("raw".parse::<Kind>(), "unknown data plane", "`raw`", "use xdp or proxy"),
        stage.typed(
            "backend set web 10.0.0.12 --soft-limit 0",
            "limit 0 is out of range",
            "backend 10.0.0.12 of service web: soft_limit: ",
            "use 1 to 4294967295",
        ),
        stage.typed(
            "backend remove web 10.0.0.11 --drain soon",
            "is not a duration",
            "`soon`",
            "write it with a unit",
        ),
        stage.typed("events --kind odd", "unknown kind of event", "`odd`", "known are serving,"),
        stage.asked("GET /v1/events?since=x", "", "is not the id of an event", "`x`", "write 17 or START-17"),
        stage.typed_words(
            &["apply", &stage.file(""), "--if-match", "?"],
            "is not a revision",
            "`?`",
            "write it as `status --json` and the header ETag show it",
        ),
    ]
}

fn rate_limits(stage: &Stage) -> Vec<Row> {
    let limit = |text: &str, what, on: &str, to_do: &'static str| {
        let on = format!("service web: {on}");
        stage.typed_words(&["service", "set", "web", "--rate-limit", text], what, on, to_do)
    };
    let range = "use 1 to 10000000, leave it out, or have no limit at all with `none`";
    vec![
        limit(
            "packets",
            "is not key=value",
            "rate_limit: `packets`",
            "write it as in packets=10000,flows=100",
        ),
        limit(
            "packets=many",
            "is not a number",
            "rate_limit: `packets=many`",
            "write it as in packets=10000",
        ),
        limit("packets=1,packets=2", "is said twice", "rate_limit: `packets=2`", "leave one of them out"),
        limit(
            "packets=5 flows=3",
            "is more than one key",
            "rate_limit: `packets=5 flows=3`",
            "separate them by commas",
        ),
        limit(
            "speed=1",
            "a rate limit has no key `speed`",
            "rate_limit: ",
            "known are packets, flows, packets_burst",
        ),
        limit("packets=0", "is out of range", "rate_limit: packets 0", range),
        limit("packets=-1", "is out of range", "rate_limit: packets -1", range),
        limit(
            "flows=99999999999999999999",
            "is out of range",
            "rate_limit: flows 99999999999999999999",
            range,
        ),
        limit(
            "",
            "a rate limit of nothing limits nobody",
            "a rate limit",
            "give `packets` or `flows`, or leave rate_limit out (on the command line `--rate-limit none`)",
        ),
        limit(
            "flows=1,packets_burst=5",
            "`packets_burst` is how far `packets` may be exceeded",
            "rate_limit: ",
            "give `packets`, too",
        ),
    ]
}

/// What JSON says where it should say something else.
fn json(stage: &Stage) -> Vec<Row> {
    let service = |body, on, to_do| stage.asked("PATCH /v1/services/web", body, "invalid type", on, to_do);
    let backend = |body, on, to_do| {
        stage.asked("PATCH /v1/services/web/backends/10.0.0.11", body, "invalid type", on, to_do)
    };
    vec![
        service(r#"{"vip":80}"#, "vip: ", "expected a service address such as \"10.0.0.100:80/tcp\""),
        service(
            r#"{"transition":[]}"#,
            "transition: ",
            "expected a duration in quotes such as \"500ms\" or \"10m\"",
        ),
        service(
            r#"{"scheduler":1}"#,
            "scheduler: ",
            "expected \"maglev\", \"round-robin\" or \"least-connections\"",
        ),
        service(
            r#"{"proxy_protocol_from":[1]}"#,
            "proxy_protocol_from: ",
            "expected an address or a prefix such as \"192.0.2.0/24\"",
        ),
        service(r#"{"allow":1}"#, "allow: ", "expected a list of prefixes such as [\"192.0.2.0/24\"]"),
        service(
            r#"{"rate_limit":1}"#,
            "rate_limit: ",
            "expected a table such as { packets = 10000, flows = 100 }",
        ),
        service(r#"{"health":1}"#, "health: ", "expected \"none\", \"tcp\" or a table such as"),
        service(r#"{"health":{"kind":1}}"#, "health: ", "expected a kind of check such as \"tcp\""),
        backend(r#"{"mac":1}"#, "mac: ", "expected a MAC address such as \"02:00:00:00:00:01\""),
        backend(r#"{"address":1}"#, "address: ", "expected an address such as \"10.0.0.11\""),
        backend(r#"{"weight":"x"}"#, "weight: ", "expected a number from 1 to 1000"),
        stage.asked(
            "PATCH /v1/services/web",
            r#"{"transition":5}"#,
            "5 is not a duration",
            "transition: ",
            "write it with a unit, as \"5s\"",
        ),
        stage.asked(
            "PATCH /v1/services/web",
            r#"{"vlan":5}"#,
            "unknown field",
            "`vlan`",
            "expected one of `name`, `vip`",
        ),
    ]
}

fn commands(stage: &Stage) -> Vec<Row> {
    vec![
        stage.typed(
            "service set web",
            "nothing to change",
            "service web",
            "give at least one option (see --help)",
        ),
        stage.typed(
            "backend set web 10.0.0.11",
            "nothing to change",
            "backend 10.0.0.11 of service web",
            "give at least one option",
        ),
        stage.typed("man backend odd", "has no command", "odd", "`pen-ctl help` shows those there are"),
        stage.typed(
            "man --directory /nonexistent",
            "No such file or directory",
            "write /nonexistent/pen-ctl",
            "make the directory first",
        ),
        stage.typed(
            "backend remove web 10.0.0.11 --drain 0s",
            "a drain of no time is none",
            "backend 10.0.0.11 of service web",
            "leave the time out to remove it at once",
        ),
        stage.typed(
            "backend remove web 10.0.0.11 --drain 400days",
            "a drain of more than a year is too long",
            "backend 10.0.0.11 of service web",
            "use at most 365days",
        ),
        stage.typed(
            "backend remove web 10.0.0.13 --drain 10m",
            "it is down, so that nobody is on it",
            "backend 10.0.0.13 of service web",
            "remove it at once, without a drain",
        ),
        stage.asked(
            "DELETE /v1/clients?service=web&all=true",
            "",
            "`all` goes with nothing else",
            "`all`",
            "name a client, a service or a backend",
        ),
        stage.asked(
            "DELETE /v1/clients",
            "",
            "nobody is named to be forgotten",
            "nobody",
            "name a client, a service or a backend",
        ),
        stage.typed("client list --limit 100001", "is out of range", "limit 100001", "use 0 to 100000"),
        stage.typed(
            "client list --backend 10.0.0.77",
            "no service has a backend",
            "10.0.0.77",
            "`pen-ctl backend list` shows those there are",
        ),
        stage.typed(
            "client list dns --backend 10.0.0.11",
            "service dns has no backend",
            "10.0.0.11",
            "`pen-ctl backend list dns` shows those it has",
        ),
    ]
}
