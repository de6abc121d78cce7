//! Applied to look, applied on trial, taken back, brought back.

use super::*;
use crate::api::Interfaces;
use crate::api::configuration::{AppliedDocument, HistoryDocument, How, StateDocument};
use crate::state::desired::AdminState;

const OLD: &str = "[[service]]\nname = 'web'\nvip = '10.0.0.100:80/tcp'\n\
                   backend = [{ address = '10.0.0.11' }, { address = '10.0.0.12' }]\n";
const TRIAL: How = How { dry_run: false, confirm: Some(Duration::from_secs(600)) };

fn new() -> String {
    OLD.replace("10.0.0.12", "10.0.0.14")
}

fn apply(text: &str, how: How) -> Request {
    Request::Apply { file: "pen.toml".into(), text: text.to_owned(), how }
}

fn applied(reply: Reply) -> AppliedDocument {
    match reply {
        Reply::Applied(document) => *document,
        other => panic!("{other:?}"),
    }
}

fn later(bench: &Bench, seconds: u64) {
    bench.clock.0.fetch_add(seconds * 1000, Ordering::Relaxed);
}

fn restart(bench: &mut Bench, options: Options) {
    bench.start(options);
    bench.hear([Event::Links(links())]);
}

fn history(bench: &mut Bench) -> Vec<StateDocument> {
    match bench.done(Request::History) {
        Reply::History(HistoryDocument { states }) => states,
        other => panic!("{other:?}"),
    }
}

fn addresses(bench: &mut Bench) -> Vec<BackendAddress> {
    bench.status().services[0].backends.iter().map(|backend| backend.address).collect()
}

/// The state as it is on disk, without what goes with it.
fn kept(bench: &Bench) -> serde_json::Value {
    serde_json::from_str(&bench.state()).unwrap()
}

#[test]
fn a_dry_run_says_what_would_be_other_and_changes_nothing() {
    let mut bench = Bench::with_web();
    let (state, held) = (bench.state(), bench.plane.lock().observed.clone());
    let look = How { dry_run: true, confirm: None };
    let file = format!("interfaces = ['eth0', 'eth7']\ntracking_clients = 4096\n{}", new());
    let document = applied(bench.done(apply(&file, look)));
    let lines: Vec<String> = document.differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "settings: tracking_clients 262144 → 4096",
            "interface eth7",
            "backend 10.0.0.12 of service web",
            "backend 10.0.0.14 of service web",
        ]
    );
    assert!(document.changed && document.dry_run);
    let warned = document.warnings.join("\n");
    assert!(warned.contains("eth7 does not exist") && warned.contains("tracking_clients"), "{warned}");
    assert!(!applied(bench.done(apply(OLD, look))).changed);
    assert_eq!((bench.state(), bench.plane.lock().observed.clone()), (state, held));
    let wrong = bench.ask(apply(&OLD.replace("10.0.0.11", "10.0.0.100"), look)).unwrap_err();
    assert!(wrong.to_string().starts_with("pen.toml:4:12: "), "{wrong}");
}

#[test]
fn what_is_not_confirmed_is_rolled_back_to_exactly_what_was() {
    let mut bench = Bench::with_web();
    bench.done(apply(&format!("seed = 'ab'\ninterfaces = ['eth0']\n{OLD}"), How::default()));
    bench.done(set_backend(12, BackendSpec { weight: Some(3), ..BackendSpec::default() }));
    let before = bench.state();
    let document = applied(bench.done(apply(&new(), TRIAL)));
    assert_eq!(document.trial.unwrap().seconds_left, 600);
    later(&bench, 240);
    let status = bench.status();
    assert_eq!(status.controller.trial.as_ref().map(|trial| trial.seconds_left), Some(360));
    let warned = status.warnings.iter().any(|warning| warning.contains("rolled back in 6m"));
    assert!(warned, "{:?}", status.warnings);
    assert_eq!(bench.controller().wake_in(), Some(Duration::from_secs(360)));
    later(&bench, 360);
    bench.controller().reconcile();
    assert_eq!(addresses(&mut bench), [at(11), at(12)]);
    let (mut after, before) = (kept(&bench), serde_json::from_str::<serde_json::Value>(&before).unwrap());
    let refused = after.as_object_mut().unwrap().remove("taken_back");
    assert!(refused.is_some(), "the file is remembered as taken back");
    assert_eq!(after, before);
    assert_eq!(history(&mut bench)[0].cause, "pen.toml rolled back");
    bench.refused(Request::Confirm, "nothing is on trial");
}

#[test]
fn who_stops_the_controller_is_told_what_is_on_trial_and_nobody_else_is() {
    let told = |bench: &mut Bench| match bench.done(Request::Stop { detach: false }) {
        Reply::Changed(ChangeDocument { changed: true, warnings, .. }) => warnings,
        other => panic!("{other:?}"),
    };
    let mut bench = Bench::with_web();
    bench.done(apply(&new(), TRIAL));
    later(&bench, 60);
    let warnings = told(&mut bench);
    assert!(
        warnings[0].starts_with("pen.toml is on trial for another 9m: it stays in force"),
        "{warnings:?}"
    );
    assert_eq!(told(&mut Bench::with_web()), Vec::<String>::new());
}

#[test]
fn the_name_of_what_is_on_trial_is_shown_without_what_a_terminal_obeys() {
    let mut bench = Bench::with_web();
    bench.done(Request::Apply { file: "a\nevil\u{1b}[31m".into(), text: new(), how: TRIAL });
    let shown = r"a\nevil\u{1b}[31m is on trial";
    let warnings = bench.status().warnings;
    assert!(warnings.iter().any(|warning| warning.starts_with(shown)), "{warnings:?}");
    bench.refused(add_backend("web", 15), shown);
    bench.done(Request::RollBack);
    assert_eq!(history(&mut bench)[0].cause, r"a\nevil\u{1b}[31m rolled back");
}

#[test]
fn what_is_confirmed_stays() {
    let mut bench = Bench::with_web();
    bench.done(apply(&new(), TRIAL));
    bench.done(Request::Confirm);
    later(&bench, 601);
    restart(&mut bench, Options::default());
    assert_eq!(bench.status().services[0].backends[1].address, at(14));
    assert_eq!(bench.status().controller.trial, None);
}

#[test]
fn a_trial_goes_on_through_a_restart_and_one_whose_time_was_up_meanwhile_is_rolled_back_at_once() {
    let mut bench = Bench::with_web();
    bench.done(apply(&new(), TRIAL));
    later(&bench, 100);
    restart(&mut bench, Options::default());
    assert_eq!(bench.status().controller.trial.map(|trial| trial.seconds_left), Some(500));
    bench.controller = None;
    later(&bench, 500);
    bench.operations();
    restart(&mut bench, Options::default());
    let touched = format!("{:?}", bench.operations());
    assert!(!touched.contains("10.0.0.14: "), "{touched}");
    assert_eq!(bench.status().services[0].backends[1].address, at(12));
}

#[test]
fn a_clock_that_was_set_back_gives_a_trial_its_time_once_more_and_not_at_every_start() {
    let mut bench = Bench::with_web();
    bench.done(apply(&new(), TRIAL));
    bench.clock.1.store(-10_000, Ordering::Relaxed);
    restart(&mut bench, Options::default());
    assert_eq!(bench.status().controller.trial.map(|trial| trial.seconds_left), Some(600));
    later(&bench, 400);
    restart(&mut bench, Options::default());
    assert_eq!(bench.status().controller.trial.map(|trial| trial.seconds_left), Some(200));
    later(&bench, 200);
    restart(&mut bench, Options::default());
    assert_eq!(addresses(&mut bench), [at(11), at(12)]);
}

#[test]
fn a_start_applies_neither_the_file_that_was_taken_back_nor_another_one_while_something_is_on_trial() {
    let mut bench = Bench::new();
    let file = bench.home.path().join("pen.toml");
    std::fs::write(&file, OLD).unwrap();
    let options = Options { file: Some(file.clone()), ..Options::default() };
    restart(&mut bench, options.clone());
    bench.done(apply(&new(), TRIAL));
    restart(&mut bench, options.clone());
    assert_eq!(bench.status().services[0].backends[1].address, at(14), "on trial");

    std::fs::write(&file, new()).unwrap();
    later(&bench, 601);
    bench.controller().reconcile();
    restart(&mut bench, options);
    let status = bench.status();
    assert_eq!(status.services[0].backends[1].address, at(12), "taken back");
    assert!(
        status.warnings.iter().any(|warning| warning.contains("taken back since")),
        "{:?}",
        status.warnings
    );
    bench.done(Request::Reload);
    assert_eq!(bench.status().services[0].backends[1].address, at(14), "asked for again");
}

#[test]
fn during_a_trial_only_what_an_operator_must_be_able_to_do_is_done_and_survives_its_end() {
    let mut bench = Bench::with_web();
    bench.done(apply(&new(), TRIAL));
    for request in [
        add_service("dns", "10.0.0.101:53/udp"),
        add_backend("web", 15),
        set_backend(11, BackendSpec { weight: Some(2), ..BackendSpec::default() }),
        attach("eth1"),
        apply(OLD, TRIAL),
    ] {
        bench.refused(request, "pen.toml is on trial for another 10m");
    }
    let down = BackendSpec { state: Some(AdminState::Down), ..BackendSpec::default() };
    bench.done(set_backend(11, down));
    bench.done(Request::Detach(Interfaces::Named(vec!["eth0".into()])));
    bench.done(Request::RollBack);
    let status = bench.status();
    assert!(status.interfaces.is_empty(), "detached stays detached");
    let backends: Vec<_> = status.services[0].backends.iter().map(|one| (one.address, one.state)).collect();
    assert_eq!(backends, [(at(11), AdminState::Down), (at(12), AdminState::Up)]);
}

#[test]
fn a_rollback_that_cannot_be_written_happens_all_the_same_and_is_written_later() {
    let mut bench = Bench::with_web();
    bench.done(apply(&new(), TRIAL));
    // Nothing can be made where a directory is in the way.
    let in_the_way = bench.state_dir().join("state.json.new");
    std::fs::create_dir(&in_the_way).unwrap();
    later(&bench, 600);
    bench.controller().reconcile();
    assert_eq!(bench.status().services[0].backends[1].address, at(12));
    let warnings = bench.status().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("cannot be written")), "{warnings:?}");
    assert!(kept(&bench).get("trial").is_some());
    std::fs::remove_dir(&in_the_way).unwrap();
    bench.controller().tick();
    assert!(kept(&bench).get("trial").is_none());
    assert!(!bench.status().warnings.iter().any(|warning| warning.contains("cannot be written")));
}

#[test]
fn states_from_before_are_listed_with_what_made_them_and_brought_back() {
    let mut bench = Bench::with_web();
    later(&bench, 3600);
    bench.done(apply(&new(), How::default()));
    let states = history(&mut bench);
    let told: Vec<_> =
        states.iter().map(|state| (state.number, state.cause.as_str(), state.changes)).collect();
    assert_eq!(told, [(3, "pen.toml applied", 1), (2, "changed at run time", 4), (1, "found at a start", 1)]);
    assert!(states[0].current && states[0].summary.contains("backend 10.0.0.14 added"), "{states:?}");

    let look = Request::HistoryRestore { number: 2, how: How { dry_run: true, confirm: None } };
    let document = applied(bench.done(look));
    assert_eq!(document.differences.len(), 2);
    assert_eq!(history(&mut bench).len(), 3);
    bench.done(Request::HistoryRestore { number: 2, how: How::default() });
    assert_eq!(addresses(&mut bench), [at(11), at(12)]);
    assert_eq!(history(&mut bench)[0].cause, "state 2 restored");
    match bench.done(Request::HistoryShow { number: 3 }) {
        Reply::State(detail) => assert!(detail.toml.contains("10.0.0.14"), "{}", detail.toml),
        other => panic!("{other:?}"),
    }
    bench.refused(Request::HistoryRestore { number: 99, how: How::default() }, "no state 99");
    bench
        .refused(apply(&new(), How { dry_run: false, confirm: Some(Duration::ZERO) }), "no time for a trial");
}

#[test]
fn what_is_exported_changes_nothing_when_it_is_applied() {
    let mut bench = Bench::with_web();
    bench.done(set_backend(12, BackendSpec { state: Some(AdminState::Drain), ..BackendSpec::default() }));
    let revision = bench.controller().revision();
    let Reply::Config(exported) = bench.done(Request::Export) else { panic!("no export") };
    assert_eq!(exported.revision, revision);
    assert!(!applied(bench.done(apply(&exported.toml, How::default()))).changed);
    assert_eq!(bench.controller().revision(), revision);
}
