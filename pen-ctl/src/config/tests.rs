//! What a file may say, where it is wrong, and what it makes of a state.

use super::*;
use crate::state::desired::AdminState;

const EXAMPLE: &str = include_str!("../../../docs/pen.example.toml");

fn wrong(text: &str) -> String {
    Config::parse("pen.toml", text).unwrap_err().to_string()
}

#[track_caller]
fn says(text: &str, place: &str, why: &str) {
    let error = wrong(text);
    assert!(error.starts_with(&format!("pen.toml:{place}: ")), "{error}");
    assert!(error.contains(why), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn the_shipped_example_works_and_shows_every_key() {
    let config = Config::parse("pen.example.toml", EXAMPLE).unwrap();
    assert!(!config.onto(&Desired::new(1)).unwrap().services.is_empty());
    for key in [
        "seed",
        "interfaces",
        "tracking_clients",
        "flood_inserts_per_cpu",
        "affinity",
        "tracking_timeout",
        "on_empty",
        "allow",
        "deny",
        "rate_limit",
        "vlan",
    ] {
        assert!(EXAMPLE.contains(&format!("{key} = ")), "the example does not show {key}");
    }
}

#[test]
fn all_that_a_file_can_say_is_kept_by_the_state_as_it_was() {
    let desired = Config::parse("pen.example.toml", EXAMPLE).unwrap().onto(&Desired::new(1)).unwrap();
    let kept = serde_json::to_string(&desired).unwrap();
    assert_eq!(serde_json::from_str::<Desired>(&kept).unwrap(), desired);
}

#[test]
fn a_state_that_an_older_pen_wrote_is_read_and_one_with_nothing_new_is_read_by_an_older_pen() {
    let text = "[[service]]\nname = 'web'\nvip = '10.0.0.100:80/tcp'\n";
    let desired = Config::parse("pen.toml", text).unwrap().onto(&Desired::new(1)).unwrap();
    let kept = serde_json::to_string(&desired).unwrap();
    for key in ["allow", "deny", "rate_limit", "flood_inserts_per_cpu"] {
        assert!(!kept.contains(key), "{kept}");
    }
    assert_eq!(serde_json::from_str::<Desired>(&kept).unwrap().flood_inserts_per_cpu, 100_000);
}

#[test]
fn what_is_commented_out_in_the_example_works_too() {
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("#").filter(|rest| !rest.starts_with([' ', '#'])).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_ne!(uncommented, EXAMPLE);
    Config::parse("pen.example.toml", &uncommented).unwrap();
}

#[test]
fn mistakes_are_told_with_line_and_column() {
    says("[[service]\n", "1:11", "unclosed");
    says("interfaces = [\"eth0\"]\nhtpp = \"x\"\n", "2:1", "unknown key `htpp`");
    let service = "[[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\n";
    says(
        &format!("{service}backend = [{{ address = \"10.0.0.11\", wieght = 2 }}]"),
        "4:37",
        "unknown key `wieght`",
    );
    says(&format!("{service}backend = [{{ address = \"10.0.0.11:0\" }}]"), "4:24", "port 0");
    says(&format!("{service}backend = [{{ address = \"10.0.0.11\", weight = 1001 }}]"), "4:46", "1 to 1000");
    says(&format!("{service}transition = 5"), "4:14", "with a unit");
    says(&format!("{service}health = {{ kind = \"tcp\", rise = \"2\" }}"), "4:33", "a number from 1 to 100");
    says(&format!("{service}affinity = \"cleint\""), "4:12", "cleint");
    says("[[service]]\nname = \"web\"\n", "1:1", "`vip` is missing");
    says("interfaces = [\"eth0\", \"far-too-long-a-name\"]", "1:23", "too long");
}

#[test]
fn what_breaks_a_rule_is_told_where_it_is_written() {
    let web = "[[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\n";
    let dns = "[[service]]\nname = \"dns\"\nvip = \"10.0.0.101:53/udp\"\n";
    let once = "already; it can be in the file only once";
    says(&format!("{web}{dns}{web}"), "7:1", once);
    says(&format!("{web}{dns}{}", web.replace("web", "www")), "7:1", once);
    says(&format!("{web}{}", dns.replace("10.0.0.101", "224.0.0.1")), "4:1", "multicast");
    let second = |address: &str| {
        format!("{web}backend = [{{ address = \"10.0.0.11\" }}, {{ address = \"{address}\" }}]\n")
    };
    let xdp = |text: &str| format!("dataplane = \"xdp\"\n{text}");
    says(&xdp(&second("2001:db8::1")), "5:39", "is IPv6");
    says(&second("10.0.0.11"), "4:39", once);
    says(&xdp(&second("10.0.0.100")), "5:39", "own VIP");
    says(&second("10.0.0.100"), "4:39", "own VIP");
    says(&xdp(&format!("{dns}{}", second("10.0.0.101"))), "8:39", "the VIP of service dns");
    says(
        &format!(
            "{web}[[service.backend]]\naddress = \"10.0.0.11\"\n[[service.backend]]\naddress = \"224.0.0.1\"\n"
        ),
        "6:1",
        "multicast",
    );
    says("interfaces = [\"eth0\", \"eth1\", \"eth0\"]", "1:31", "twice");
    // Of several, the first, with its own words.
    says(
        &format!("{}{web}{web}", dns.replace("10.0.0.101", "fe80::1").replace("fe80::1:53", "[fe80::1]:53")),
        "1:1",
        "link-local",
    );
}

#[test]
fn values_that_cannot_be_are_told_with_what_can() {
    let service = "[[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\n";
    says("flood_inserts_per_cpu = 1000000001", "1:25", "0 to 1000000000");
    says("http = \"localhost:9080\"", "1:8", "127.0.0.1:9080 or [::1]:9080");
    says("http = 9080", "1:8", "string");
    says(&format!("{service}deny = [\"@/etc/pen/deny.txt\"]"), "4:9", "on the command line read a file");
    says(&format!("{service}rate_limit = 5"), "4:14", "a table such as { packets = 10000, flows = 100 }");
    says(
        &format!("{service}rate_limit = {{ packets = 1, speed = 2 }}"),
        "4:29",
        "unknown key `speed` in a rate limit",
    );
    says(&format!("{service}rate_limit = {{ flows = 0 }}"), "4:24", "1 to 10000000");
    says(&format!("{service}rate_limit = {{ packets_burst = 5 }}"), "4:14", "give `packets`, too");
    says(
        &format!("{service}allow = [\"10.0.0.0/8\", \"10.0.0.1/8\"]"),
        "4:24",
        "write 10.0.0.0/8 or 10.0.0.1",
    );
    says(&format!("{service}deny = \"10.0.0.1\""), "4:8", "a list of prefixes");
    says(&format!("{service}health = {{ kind = \"ping\" }}"), "4:19", "unknown health check `ping`");
    says(&format!("{service}health = {{ kind = \"tcp\", path = \"/\" }}"), "4:10", "takes no key `path`");
}

#[test]
fn a_file_replaces_services_but_keeps_what_it_does_not_mention() {
    let file = |extra: &str, backends: &str| {
        let text = format!(
            "{extra}\n[[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\nbackend = [{backends}]\n"
        );
        Config::parse("pen.toml", &text).unwrap()
    };
    let two = "{ address = \"10.0.0.11\" }, { address = \"10.0.0.12\" }";
    let mut state = file("interfaces = [\"eth0\"]", two).onto(&Desired::new(7)).unwrap();
    for backend in &mut state.service_mut("web").unwrap().backends {
        backend.state = AdminState::Drain;
    }
    let mentioned = "{ address = \"10.0.0.11\", state = \"up\" }, { address = \"10.0.0.12\" }";
    let applied = file("", mentioned).onto(&state).unwrap();
    let states: Vec<_> = applied.service("web").unwrap().backends.iter().map(|b| b.state).collect();
    assert_eq!(states, [AdminState::Up, AdminState::Drain]);
    assert_eq!(applied.interfaces, state.interfaces, "an absent key detaches nothing");
    assert_eq!(applied.seed, 7, "an absent seed changes no choice");
    assert!(file("interfaces = []", two).onto(&state).unwrap().interfaces.is_empty());
    assert_eq!(file("seed = \"ff\"", two).onto(&state).unwrap().seed, 255);
}

const PROXY_EXAMPLE: &str = include_str!("../../../docs/proxy.example.toml");

#[test]
fn the_shipped_proxy_example_works_and_shows_every_key_of_the_proxy() {
    let uncommented: String = PROXY_EXAMPLE
        .lines()
        .map(|line| line.strip_prefix("#").filter(|rest| !rest.starts_with([' ', '#'])).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    for text in [PROXY_EXAMPLE, &uncommented] {
        let config = Config::parse("proxy.example.toml", text).unwrap();
        assert_eq!(config.dataplane(), Choice::Proxy);
    }
    for key in [
        "connect_timeout",
        "idle_timeout",
        "max_connections",
        "stubborn",
        "transparent",
        "proxy_protocol",
        "proxy_protocol_from",
        "on_down",
        "allow",
        "deny",
        "soft_limit",
        "hard_limit",
    ] {
        assert!(PROXY_EXAMPLE.contains(&format!("{key} = ")), "the example does not show {key}");
    }
}

#[test]
fn a_file_obeys_the_rules_of_the_data_plane_it_names_and_a_flag_beats_it() {
    let port = "[[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\nbackend = [{ address = \"10.0.0.11:81\" }]\n";
    assert_eq!(Config::parse("pen.toml", port).unwrap().dataplane(), Choice::Auto);
    says(&format!("dataplane = \"xdp\"\n{port}"), "5:12", "has a port");
    let named = format!("dataplane = \"proxy\"\n{port}");
    assert_eq!(Config::parse("pen.toml", &named).unwrap().dataplane(), Choice::Proxy);
    assert!(Config::parse_for("pen.toml", &named, Some(Kind::Xdp)).is_err());
    says("dataplane = \"raw\"", "1:13", "unknown value `raw`");
}
