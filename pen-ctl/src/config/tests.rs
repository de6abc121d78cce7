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
    for key in ["seed", "interfaces", "tracking_clients", "affinity", "tracking_timeout", "on_empty", "vlan"]
    {
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
    says(&format!("{service}backend = [{{ address = \"10.0.0.11:80\" }}]"), "4:24", "has a port");
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
    says(&second("2001:db8::1"), "4:39", "is IPv6");
    says(&second("10.0.0.11"), "4:39", once);
    says(&second("10.0.0.100"), "4:39", "own VIP");
    says(&format!("{dns}{}", second("10.0.0.101")), "7:39", "the VIP of service dns");
    says(
        &format!(
            "{web}[[service.backend]]\naddress = \"10.0.0.11\"\n[[service.backend]]\naddress = \"127.0.0.1\"\n"
        ),
        "6:1",
        "loopback",
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
fn what_is_not_built_yet_is_refused_as_such() {
    let service = "[[service]]\nname = \"web\"\nvip = \"10.0.0.100:80/tcp\"\n";
    says("flood_inserts_per_cpu = 1", "1:1", "not supported yet");
    says("http = \"localhost:9080\"", "1:8", "127.0.0.1:9080 or [::1]:9080");
    says("http = 9080", "1:8", "string");
    says(&format!("{service}rate_limit = 5"), "4:1", "not supported yet");
    says(&format!("{service}scheduler = \"least-connections\""), "4:13", "not supported yet");
    says(&format!("{service}health = {{ kind = \"http\", path = \"/\" }}"), "4:19", "not supported yet");
    says(&format!("{service}health = \"https\""), "4:10", "not supported yet");
    says(
        &format!("{service}backend = [{{ address = \"10.0.0.1\", soft_limit = 2 }}]"),
        "4:36",
        "not supported yet",
    );
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
