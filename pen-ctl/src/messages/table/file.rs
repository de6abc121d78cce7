//! The configuration file.

use super::super::stage::Stage;
use super::super::{Row, ToDo};

const SERVICE: &str = "[[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\n";

pub(super) fn rows(stage: &Stage) -> Vec<Row> {
    let check = |text: &str, what, place: &str, to_do: &'static str| {
        let file = stage.file(text);
        stage.typed_words(&["check", &file], what, format!("{file}:{place}: "), to_do)
    };
    let whole = |bytes: &[u8], what, to_do: &'static str| {
        let file = stage.file(bytes);
        stage.typed_words(&["check", &file], what, file.clone(), to_do)
    };
    let backends = |list: &str| format!("{SERVICE}backend = [{list}]");
    let own_words = ToDo::Nothing("the reader of TOML says what it expected");
    let broken = stage.file("[[service]\n");
    vec![
        stage.typed_words(&["check", &broken], "unclosed", format!("{broken}:1:11: "), own_words),
        check(
            "htpp = 1",
            "unknown key `htpp` in a configuration",
            "1:1",
            "known are dataplane, seed, interfaces",
        ),
        check(
            "flood_inserts_per_cpu = -1",
            "flood_inserts_per_cpu -1 is out of range",
            "1:25",
            "use 0 to 1000000000",
        ),
        check(
            "seed = \"xyz\"",
            "seed `xyz` is not 1 to 16 hexadecimal digits",
            "1:8",
            "such as \"1f2e3d4c5b6a7988\"",
        ),
        check(
            "[[service]]\nhealth = { kind = \"http\", status = [200] }",
            "invalid type",
            "2:36",
            "expected a status such as 200, or several as \"200-399\" or \"200 204\"",
        ),
        check("seed = 1", "invalid type", "1:8", "expected 1 to 16 hexadecimal digits in quotes"),
        check("tracking_clients = 5", "tracking_clients 5 is out of range", "1:20", "use 1024 to 16777216"),
        check("interfaces = [1]", "invalid type", "1:15", "expected an interface such as \"eth0\" or"),
        check(
            "http = \"9080\"",
            "`9080` is not an IP address and port to listen on",
            "1:8",
            "write for example 127.0.0.1:9080",
        ),
        check(
            "[[service]]\nhealth = { rise = 1 }",
            "a health check needs a kind",
            "2:10",
            "write kind = \"tcp\"",
        ),
        check(
            "[[service]]\nhealth = \"default\"",
            "unknown health check `default`",
            "2:10",
            "leave `health` out",
        ),
        check(
            "[[service]]\nname = \"web\"",
            "service web: the key `vip` is missing",
            "1:1",
            "write vip = \"10.0.0.100:80/tcp\"",
        ),
        check(
            "[[service]]\nvip = \"10.0.0.100:80/tcp\"",
            "service 10.0.0.100:80/tcp: the key `name` is missing",
            "1:1",
            "write name = \"web\"",
        ),
        check(
            &backends("{ weight = 2 }"),
            "service web: a backend has no `address`",
            "1:1",
            "write backend = [{ address = \"10.0.0.11\" }]",
        ),
        check(
            &backends("{ address = \"10.0.0.11\" }, { address = \"10.0.0.11\" }"),
            "backend 10.0.0.11 of service web is there already",
            "4:39",
            "it can be in the file only once",
        ),
        check(
            &backends("{ address = \"224.0.0.1\" }"),
            "is a multicast address",
            "4:12",
            "use the address of a server",
        ),
        whole(&[0xff], "is not UTF-8 text", "save it as UTF-8"),
        whole(
            &vec![b'#'; (16 << 20) + 1],
            "has 16777217 bytes, more than the 16777216",
            "is it the right file",
        ),
        stage.typed(
            "check /nonexistent/pen.toml",
            "cannot be read: No such file or directory",
            "/nonexistent/pen.toml",
            "give one that is there and readable",
        ),
    ]
}
