//! Which state wins: the file's or what was changed at run time.

use super::*;
use crate::api::configuration::How;
use crate::api::document::InterfaceState;
use crate::dataplane::Prefixes;

const FILE: &str = "interfaces = ['eth0', 'eth7']\n[[service]]\nname = 'web'\nvip = '10.0.0.100:80/tcp'\n\
                    backend = [{ address = '10.0.0.11' }, { address = '10.0.0.12' }]\n";

fn started_with_file(bench: &mut Bench) -> Options {
    let file = bench.home.path().join("pen.toml");
    std::fs::write(&file, FILE).unwrap();
    let options = Options { file: Some(file), ..Options::default() };
    bench.start(options.clone());
    bench.hear([Event::Links(links())]);
    options
}

fn addresses(bench: &mut Bench) -> Vec<BackendAddress> {
    bench.status().services[0].backends.iter().map(|backend| backend.address).collect()
}

#[test]
fn an_unchanged_file_leaves_runtime_changes_alone_and_a_changed_one_replaces_them() {
    let mut bench = Bench::new();
    let options = started_with_file(&mut bench);
    bench.done(add_backend("web", 13));
    bench.start(options.clone());
    bench.hear([Event::Links(links())]);
    assert_eq!(addresses(&mut bench), [at(11), at(12), at(13)]);
    assert!(!bench.status().controller.file_differs);

    std::fs::write(options.file.clone().unwrap(), FILE.replace("10.0.0.12", "10.0.0.14")).unwrap();
    let status = bench.status();
    assert!(status.controller.file_differs);
    assert!(status.warnings.iter().any(|warning| warning.contains("pen.toml is not what was last applied")));
    bench.start(options);
    bench.hear([Event::Links(links())]);
    assert_eq!(addresses(&mut bench), [at(11), at(14)]);
}

#[test]
fn interfaces_of_the_file_that_do_not_exist_are_pending() {
    let mut bench = Bench::new();
    started_with_file(&mut bench);
    let states: Vec<_> = bench.status().interfaces.iter().map(|interface| interface.state).collect();
    assert_eq!(states, [InterfaceState::Attached, InterfaceState::Pending]);
}

#[test]
fn a_reload_applies_the_file_again_and_a_wrong_one_changes_nothing() {
    let mut bench = Bench::new();
    let file = started_with_file(&mut bench).file.unwrap();
    bench.done(add_backend("web", 13));
    bench.done(Request::Reload);
    assert_eq!(addresses(&mut bench), [at(11), at(12)]);
    std::fs::write(&file, FILE.replace("address = '10.0.0.12'", "adress = '10.0.0.12'")).unwrap();
    let state = bench.state();
    let error = bench.ask(Request::Reload).unwrap_err();
    assert!(error.to_string().contains("pen.toml:5:41: unknown key `adress`"), "{error}");
    assert_eq!(bench.state(), state);
    let warnings = bench.status().warnings;
    let broken: Vec<_> = warnings.iter().filter(|warning| warning.contains("pen.toml")).collect();
    assert!(matches!(broken[..], [one] if one.contains("5:41: unknown key `adress`")), "{warnings:?}");
    assert!(!broken[0].contains("SIGHUP"), "it would not be applied: {broken:?}");
}

#[test]
fn another_limit_for_floods_is_in_force_at_once_and_back_at_its_default_when_a_file_says_none() {
    let mut bench = Bench::with_web();
    let apply = |text: String| Request::Apply { file: "pen.toml".into(), text, how: How::default() };
    assert_eq!(bench.plane.lock().observed.flood_inserts_per_cpu, 100_000);
    bench.operations();
    bench.done(apply(format!("flood_inserts_per_cpu = 0\n{FILE}")));
    assert!(bench.operations().contains(&Operation::SetFlood(0)));
    bench.done(apply(FILE.to_owned()));
    assert_eq!(bench.plane.lock().observed.flood_inserts_per_cpu, 100_000);
}

#[test]
fn who_may_use_a_service_is_handed_to_the_data_plane() {
    let mut bench = Bench::with_web();
    let keys = "allow = ['10.0.0.0/8']\ndeny = ['10.1.0.0/16', '10.1.0.0/16']\nrate_limit = { packets = 5 }\nbackend";
    let text = FILE.replacen("backend", keys, 1);
    bench.done(Request::Apply { file: "pen.toml".into(), text, how: How::default() });
    let observed = bench.plane.lock().observed.clone();
    let settings = &observed.services.values().next().unwrap().settings;
    let shown = |list: &Prefixes| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&settings.access.allow), ["10.0.0.0/8"]);
    assert_eq!(shown(&settings.access.deny), ["10.1.0.0/16"]);
    assert_eq!(settings.rate_limit, "packets=5".parse().ok());
    let service = bench.status().services.remove(0);
    assert_eq!((service.access.allow, service.access.deny), (1, 1));
    assert_eq!(service.rate_limit, settings.rate_limit);
}

#[test]
fn a_changed_seed_renews_the_tables() {
    let mut bench = Bench::with_web();
    bench.operations();
    let text = format!("seed = 'abc'\n{FILE}");
    bench.done(Request::Apply { file: "pen.toml".into(), text, how: How::default() });
    let operations = bench.operations();
    assert_eq!(operations[0], Operation::SetSeed(0xabc));
    assert!(matches!(operations.last(), Some(Operation::SetTable { .. })));
    assert_eq!(bench.status().controller.seed, Some(0xabc));
}
