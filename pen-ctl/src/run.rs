//! `pen-ctl run`: puts the controller's parts together and keeps them running until a signal or `stop`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::api::ApiError;
use crate::api::event::Kind;
use crate::cli::Global;
use crate::cli::error::CliError;
use crate::config::{self, Config};
use crate::controller::{
    Clock, Controller, Options, SystemClock, applies_at_start, apply_at_start, expire_at_start,
    wanted_address,
};
use crate::dataplane::proxy::handover::{self, Takeover};
use crate::dataplane::proxy::limit;
use crate::dataplane::{self, Choice, DataPlane};
use crate::journal::{Journal, Note};
use crate::log::{self, LogFormat};
use crate::metrics::timings::Timings;
use crate::own_address;
use crate::server::socket::{BoundSocket, SocketError};
use crate::server::tcp::{self, Door};
use crate::state::desired::Desired;
use crate::state::store::{Recovered, Store, StoreError};
use crate::state::validate;
use crate::surroundings::Event;

mod choice;
mod descriptors;
#[cfg(target_os = "linux")]
mod instance;
mod keeper;
mod operate;
#[cfg_attr(target_os = "linux", path = "run/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "run/other.rs")]
mod platform;
mod proxied;
mod resumed;
mod supervisor;

use keeper::Keeper;
use operate::Left;
use resumed::Place;

/// Events of the machine that may wait for the controller.
const EVENTS: usize = 1024;
/// How long a predecessor that was killed may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// From one attempt to the next.
const LOOK: Duration = Duration::from_millis(10);

/// What the administrator said about pins that are not ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Nothing: they stay untouched.
    #[default]
    None,
    /// `--adopt`.
    Adopt,
    /// `--discard`.
    Discard,
}

/// How the controller runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pen-ctl run
  pen-ctl run -c /etc/pen.toml
  pen-ctl run --http 127.0.0.1:9080
  pen-ctl --socket /run/two/pen.sock --state-dir /var/lib/two --bpffs /sys/fs/bpf/two run

SIGTERM and SIGINT end it and leave forwarding on (the proxy accepts nobody new and ends with its last connection);
SIGHUP applies FILE again; SIGUSR2 has a proxy start its own successor, which takes over without a gap.")]
pub struct RunArgs {
    /// Configuration file (TOML); applied if it differs from the one applied last and is right, else the stored state stands
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What moves packets
    #[arg(long, value_name = "WHICH", value_enum, default_value_t)]
    pub dataplane: Choice,
    /// Address where everybody may look over TCP: status page, metrics, what the API
    /// shows (but clients, configuration and seed); beats `http` of the file
    #[arg(long, value_name = "ADDR", value_parser = tcp::parse)]
    pub http: Option<SocketAddr>,
    /// Take over pins of another instance: its tracking, counters and health stay for backends that match
    #[arg(long, conflicts_with = "discard")]
    pub adopt: bool,
    /// Detach, remove the pins that are there and build from the state
    #[arg(long)]
    pub discard: bool,
    /// Take the place of the controller that runs the proxy here: no client is refused, none moves, and connections
    /// that are open end where they are (SIGUSR2 has a controller start its own successor)
    #[arg(long, conflicts_with_all = ["adopt", "discard"])]
    pub take_over: bool,
    /// How the log is written
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Leave the terminal's session (used by `attach`)
    #[arg(long, hide = true)]
    pub background: bool,
}

impl RunArgs {
    fn order(&self) -> Order {
        match (self.adopt, self.discard) {
            (_, true) => Order::Discard,
            (true, false) => Order::Adopt,
            (false, false) => Order::None,
        }
    }
}

/// Runs the controller until it is told to end.
pub fn run(global: &Global, args: &RunArgs) -> Result<(), CliError> {
    if args.background {
        // Fails only if we lead a session already: then there is none to leave.
        let _ = rustix::process::setsid();
    }
    descriptors::keep_from_programs();
    log::start(args.log_format, global.verbose);
    limit::raise_descriptors();
    let read = |path| File::read(path, args.dataplane.kind());
    let mut file = args.config.as_deref().map(read).transpose();
    // Where no state can stand in for it, a wrong file is found before anything is touched.
    if args.order() != Order::None || !Store::exists(&global.state_dir()) {
        file = Ok(file?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::failed(format!("start the runtime: {error}")))?;
    let _inside = runtime.enter();
    let handover = handover::place(&global.socket());
    let mut predecessor =
        args.take_over.then(|| Takeover::from(&handover)).transpose().map_err(CliError::failed)?;
    // Before anything is touched: refuses where another controller answers.
    let (socket, listener) =
        patiently(|| BoundSocket::bind(&global.socket()), SocketError::is_live).map_err(CliError::failed)?;
    let mut store = open_state(global, args)?;
    let (journal, clock) = (Journal::new(), SystemClock::start());
    expire_at_start(&mut store, clock.unix_seconds(), &journal);
    let file = usable(file, &store, &journal)?;
    let wanted = wanted(&store, file.as_ref())?;
    let chosen = choice::choose(&facts(global, args, file.as_ref(), &store)).map_err(CliError::failed)?;
    obeys(&wanted, &store, file.as_ref(), chosen.kind)?;
    if wanted != *store.desired() && chosen.kind == dataplane::Kind::Xdp {
        own_address::refuse(store.desired(), &wanted, &platform::links(&runtime)?).map_err(CliError::from)?;
    }
    let door = Door::default();
    let asked_now = args.http.is_some() || file.as_ref().is_some_and(|file| file.applies(&store));
    open_door(&door, wanted_address(args.http, &wanted), asked_now)?;
    let (plane, keeper): (Box<dyn DataPlane>, _) = match chosen.kind {
        dataplane::Kind::Xdp if args.take_over => return Err(keeper::not_for_xdp()),
        dataplane::Kind::Xdp => (platform::open(global, &mut store, &wanted, args.order(), &journal)?, None),
        dataplane::Kind::Proxy => {
            let (why, clients) = (chosen.instead_of_xdp.as_deref(), wanted.tracking_clients);
            let plane = proxied::open(clients, why, &journal, predecessor.as_mut())?;
            let keeper = Keeper::of(&plane, &handover, args.take_over)?;
            (Box::new(plane), Some(keeper))
        }
    };
    let started = format!("pen {} runs as process {}", env!("CARGO_PKG_VERSION"), std::process::id());
    journal.note(Note::new(Kind::Started, started));
    if let Some(file) = &file {
        apply(&mut store, file, plane.kind(), clock.unix_seconds(), &journal)?;
    }
    // Only now: what could not start has not run.
    store.set_dataplane(plane.kind()).map_err(ApiError::from)?;
    let place = Place { socket, listener, store, door };
    keep_running((&runtime, global, args), &journal, (plane, keeper), place, predecessor)
}

/// Has controllers run until there is an end to it: one, and another one for each successor that failed.
fn keep_running(
    (runtime, global, args): (&Runtime, &Global, &RunArgs),
    journal: &Journal,
    (mut plane, mut keeper): (Box<dyn DataPlane>, Option<Keeper>),
    mut place: Place,
    mut predecessor: Option<Takeover>,
) -> Result<(), CliError> {
    loop {
        let (controller, heard, api) = controller(args, plane, place, journal)?;
        let operating = operate::operate(controller, heard, api, keeper.as_ref(), predecessor.take());
        let Left { plane: left, successor, mut signals } = runtime.block_on(operating)?;
        let (Some(left), Some(mut kept)) = (left, keeper) else { return Ok(()) };
        let next = resumed::place((runtime, global), args.http, &mut kept, successor, &mut signals);
        let Some(next) = next else {
            // What nobody was let in from yet, others may bind to.
            drop(left);
            return runtime.block_on(kept.outlive(signals));
        };
        journal.note(Note::new(Kind::Started, "the controller goes on: its successor failed"));
        (plane, place, keeper) = (left, next, Some(kept));
    }
}

/// A controller for that data plane, with all that it is to have.
fn controller(
    args: &RunArgs,
    plane: Box<dyn DataPlane>,
    place: Place,
    journal: &Journal,
) -> Result<(Controller, mpsc::Receiver<Event>, operate::Api), CliError> {
    let Place { socket, listener, store, door } = place;
    let (events, heard) = mpsc::channel(EVENTS);
    let timings = Timings::default();
    let surroundings = match plane.kind() {
        dataplane::Kind::Xdp => platform::surroundings(events, timings.clone())?,
        dataplane::Kind::Proxy => proxied::surroundings(events, timings.clone()),
    };
    let options = Options {
        file: args.config.as_deref().map(absolute),
        door: door.clone(),
        http: args.http,
        journal: journal.clone(),
        timings,
        ..Options::default()
    };
    let clock = Box::new(SystemClock::start());
    let controller = Controller::new(store, plane, surroundings, clock, options);
    Ok((controller, heard, operate::Api { socket, listener, door }))
}

/// What the choice of a data plane goes by.
fn facts(global: &Global, args: &RunArgs, file: Option<&File>, store: &Store) -> choice::Facts {
    let file = file.map_or(Choice::Auto, |file| file.config.dataplane());
    choice::Facts {
        asked: if args.dataplane == Choice::Auto { file } else { args.dataplane },
        last: store.dataplane(),
        attached: platform::is_attached(global, store),
        no_xdp: platform::why_not_xdp(),
    }
}

/// Refuses a state that breaks the rules of the data plane to be: what will be wanted, and what may come back.
fn obeys(
    wanted: &Desired,
    store: &Store,
    file: Option<&File>,
    kind: dataplane::Kind,
) -> Result<(), ApiError> {
    let from_file = file.is_some_and(|file| file.applies(store));
    validate::desired(wanted, kind)
        .map_err(|error| if from_file { error } else { nobody_to_change_it(error, kind) })?;
    store.trial().map_or(Ok(()), |trial| validate::desired(&trial.before, kind))
}

/// The same refusal of a state that is stored: what its hint says to change, no controller is there to change.
pub(crate) fn nobody_to_change_it(error: ApiError, kind: dataplane::Kind) -> ApiError {
    let (own, other) = match kind {
        dataplane::Kind::Xdp => ("xdp", "proxy"),
        dataplane::Kind::Proxy => ("proxy", "xdp"),
    };
    let hint = format!(
        "{}: the stored state says so, so change it under `pen-ctl run --dataplane {other}`, or start from a file that does \
         without (`pen-ctl run --dataplane {own} -c FILE`)",
        error.hint
    );
    ApiError { hint, ..error }
}

/// Opens the state; a damaged one only stands in the way of a start that was not told what to do about what is there.
fn open_state(global: &Global, args: &RunArgs) -> Result<Store, CliError> {
    let directory = global.state_dir();
    let open = || match args.order() {
        Order::None => Ok((Store::open(&directory)?, None)),
        Order::Adopt | Order::Discard => Store::open_or_recover(&directory, args.config.is_some()),
    };
    let (store, recovered) = patiently(open, is_in_use).map_err(ApiError::from)?;
    if let Some(Recovered { why, aside, from, passed_over }) = recovered {
        let aside = aside.map_or("nothing".to_owned(), |aside| aside.display().to_string());
        let from =
            from.map_or("an empty state".to_owned(), |number| format!("state {number} of the history"));
        let over = passed_over.map(|number| format!("; state {number} was on trial and is taken back"));
        let over = over.unwrap_or_default();
        tracing::warn!(kept = aside, "the state could not be used ({why}): going on from {from}{over}");
    }
    Ok(store)
}

/// Opens the state as it is.
fn open_stored(directory: &Path) -> Result<Store, StoreError> {
    patiently(|| Store::open(directory), is_in_use)
}

fn is_in_use(error: &StoreError) -> bool {
    matches!(error, StoreError::InUse { .. })
}

/// Tries again for a moment what another controller stands in the way of: one that was killed keeps its lock and
/// its socket until its last thread is gone.
fn patiently<T, E>(attempt: impl Fn() -> Result<T, E>, in_the_way: impl Fn(&E) -> bool) -> Result<T, E> {
    let give_up = Instant::now() + LAST_BREATH;
    loop {
        match attempt() {
            Err(error) if in_the_way(&error) && Instant::now() < give_up => std::thread::sleep(LOOK),
            outcome => return outcome,
        }
    }
}

/// Opens the door where it is wanted. An address that was accepted once and cannot be had now (the machine lost it, or
/// does not have it yet) keeps no packet waiting: the controller tries again and says so.
fn open_door(door: &Door, wanted: Option<SocketAddr>, asked_now: bool) -> Result<(), ApiError> {
    match patiently(|| door.open(wanted), |error| error.in_use) {
        Err(error) if asked_now => Err(error.into()),
        _ => Ok(()),
    }
}

/// The file, if there is one and it is good. A wrong one keeps no packet waiting that the stored state forwards: it is
/// said, and not applied, as with SIGHUP.
fn usable(
    file: Result<Option<File>, CliError>,
    store: &Store,
    journal: &Journal,
) -> Result<Option<File>, CliError> {
    match file {
        Err(error) if !store.is_empty() => {
            let message = format!("{error}; it is not applied: the stored state stands");
            journal.note(Note::new(Kind::Trouble, message));
            Ok(None)
        }
        file => file,
    }
}

/// What will be wanted once the file is applied.
fn wanted(store: &Store, file: Option<&File>) -> Result<Desired, CliError> {
    match file {
        Some(file) if file.applies(store) => Ok(file.config.onto(store.desired()).map_err(ApiError::from)?),
        _ => Ok(store.desired().clone()),
    }
}

/// Makes the file the desired state, unless it is the one applied last, was taken back since, or something is on trial.
fn apply(
    store: &mut Store,
    file: &File,
    kind: dataplane::Kind,
    now: u64,
    journal: &Journal,
) -> Result<(), CliError> {
    let path = file.path.display().to_string();
    let path = path.escape_debug();
    match apply_at_start(store, &file.path, kind, now)? {
        true => journal.note(Note::new(Kind::Applied, format!("configuration {path} applied"))),
        false => {
            tracing::info!("{path} was applied before, or something is on trial: the stored state stands")
        }
    }
    Ok(())
}

/// A configuration file that was read and found good.
#[derive(Debug)]
struct File {
    /// Where it is: absolute, so that it is found again whatever the working directory is then.
    path: PathBuf,
    /// What it says.
    config: Config,
}

impl File {
    /// By the rules of `kind`, where that was asked for.
    fn read(path: &Path, kind: Option<dataplane::Kind>) -> Result<File, CliError> {
        let text = config::read(path).map_err(ApiError::from)?;
        let config = Config::parse_for(&path.display().to_string(), &text, kind).map_err(ApiError::from)?;
        Ok(File { path: absolute(path), config })
    }

    /// Whether this start makes it the desired state.
    fn applies(&self, store: &Store) -> bool {
        applies_at_start(store, self.config.digest())
    }
}

/// Found again whatever the working directory is then.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
