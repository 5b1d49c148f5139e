//! From settings to a server that listens, and from a signal to a process that has lost nothing.
//!
//! Start: log, fail points, port, engine, HTTP. The port is taken before the data is touched, so that a second server
//! with the same settings changes nothing.
//!
//! Stop, on SIGTERM or SIGINT: the server drains. It says that it is not ready, answers new requests with 503 for at least
//! `server.drain_seconds`, and lets those that run come to their end within `server.shutdown_timeout_seconds`, after
//! which they are cancelled. Then it takes no more connections, and the engine closes its store. A second signal waits
//! for nothing.

use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::{App as HttpApp, HttpServer, web};
use kalamdb_commons::clock::{SystemClock, SystemEntropy};
use kalamdb_commons::settings::{LoggingSettings, ServerSettings, Settings};
use rustls::ServerConfig;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::app::{App, ConnectionRate};
use crate::config::Loaded;
use crate::errors::with_causes;
use crate::live::{demo, socket};
use crate::traces::Traces;
use crate::{fail_points, live, process, requests, routes, tls};
use kalamdb_core::Engine;

/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may go on sending a body that was answered already.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long cancelled statements may take to notice.
const CANCEL_WAIT: Duration = Duration::from_secs(5);

/// Runs the server until it is told to stop. The error is one line, for people.
pub(crate) fn run(loaded: Loaded) -> Result<(), String> {
    let sources = loaded.source_names();
    let Loaded { settings, warnings, .. } = loaded;
    let settings = Arc::new(settings);
    let runtime = engine_runtime()?;
    let traces = Traces::begin(&settings.tracing, &settings.server, runtime.handle())?;
    start_log(&settings.logging, traces.as_ref())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    fail_points::arm(&fail_points::parse(&settings.testing.fail_points)?)?;
    let tls = tls::load(&settings.server)?;
    let listener = listen(&settings.server)?;
    let engine =
        runtime.block_on(Engine::open(Arc::clone(&settings), Arc::new(SystemClock), Arc::new(SystemEntropy))).map_err(
            |error| format!("cannot open the database in {}: {}", settings.storage.data_dir, with_causes(&error)),
        )?;
    engine.set_setting_sources(sources);
    if let Some(password) = engine.first_root_password() {
        announce(&format!("The first start made the user root with the password {password} - it is shown only now"));
    }
    let data_dir = std::path::Path::new(&settings.storage.data_dir);
    process::register(engine.metrics().registry(), data_dir, engine.clock().now_ms());
    let app = App::new(Arc::clone(&engine), runtime.handle().clone(), Arc::clone(&settings), Arc::new(SystemEntropy));
    let served = actix_web::rt::System::new().block_on(serve(app.clone(), listener, tls));
    let closed = runtime.block_on(async {
        if tokio::time::timeout(CANCEL_WAIT, app.idle()).await.is_err() {
            tracing::warn!("statements were still running at the end");
        }
        engine.close().await.map_err(|error| format!("closing the database failed: {}", with_causes(&error)))
    });
    traces.into_iter().for_each(Traces::end);
    runtime.shutdown_timeout(CANCEL_WAIT);
    served.and(closed)
}

fn start_log(settings: &LoggingSettings, traces: Option<&Traces>) -> Result<(), String> {
    // The HTTP server tells its own start and stop; ours are told here.
    let directives = format!("actix_server=warn,{}", settings.level);
    let filter = EnvFilter::try_new(directives).map_err(|error| format!("logging.level: {error}"))?;
    let is_terminal = std::io::stderr().is_terminal();
    let started = match traces {
        None => {
            let log = tracing_subscriber::fmt().with_env_filter(filter);
            let log = log.with_writer(std::io::stderr).with_ansi(is_terminal);
            if settings.format == "json" { log.json().try_init() } else { log.try_init() }
        }
        Some(traces) => {
            let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal);
            let log = if settings.format == "json" { log.json().boxed() } else { log.boxed() };
            let started = tracing_subscriber::registry().with(log.with_filter(filter)).with(traces.layer()).try_init();
            started.map_err(Into::into)
        }
    };
    started.map_err(|error| format!("cannot start the log: {error}"))
}

fn listen(settings: &ServerSettings) -> Result<TcpListener, String> {
    TcpListener::bind((settings.host.as_str(), settings.port)).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::AddrInUse => "the port is in use by another process".to_owned(),
            std::io::ErrorKind::PermissionDenied => "this process may not use that port".to_owned(),
            _ => error.to_string(),
        };
        format!("cannot listen on {}:{}: {reason}", settings.host, settings.port)
    })
}

fn engine_runtime() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .thread_name("engine")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))
}

async fn serve(app: App, listener: TcpListener, tls: Option<ServerConfig>) -> Result<(), String> {
    let failed = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let address = listener.local_addr().map_err(failed("cannot listen"))?;
    app.engine.set_address(address);
    let mut signals = Signals::new().map_err(failed("cannot wait for signals"))?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let server = http_server(app.clone(), listener, tls).map_err(failed("cannot listen"))?;
    let handle = server.handle();
    let mut serving = actix_web::rt::spawn(server);
    ready(scheme, address);
    tokio::select! {
        outcome = &mut serving => {
            return outcome.map_err(|panic| format!("the HTTP server broke down: {panic}"))?.map_err(failed("the HTTP server failed"));
        }
        name = signals.next() => tracing::info!(signal = name, "stopping"),
    }
    app.drain();
    let is_drained = drained(&app, &mut signals).await;
    stop(&handle, is_drained, &mut signals).await;
    Ok(())
}

/// Lets what runs come to its end. Whether it has, in time and before a second signal.
async fn drained(app: &App, signals: &mut Signals) -> bool {
    let settings = &app.settings.server;
    // For whoever asks now and then whether the server is ready, before connections are refused.
    if tokio::time::timeout(Duration::from_secs(settings.drain_seconds), signals.next()).await.is_ok() {
        return false;
    }
    tokio::select! {
        idle = tokio::time::timeout(Duration::from_secs(settings.shutdown_timeout_seconds), app.idle()) => idle.is_ok(),
        _ = signals.next() => false,
    }
}

fn http_server(app: App, listener: TcpListener, tls: Option<ServerConfig>) -> std::io::Result<Server> {
    let settings: Arc<Settings> = Arc::clone(&app.settings);
    let figures = app.figures.clone();
    let shared = web::Data::new(app);
    let shows_demo = settings.live.demo_page;
    let endpoints = move |config: &mut web::ServiceConfig| {
        if shows_demo {
            demo::configure(config);
        }
        live::configure(config);
        routes::configure(config);
    };
    let application =
        move || HttpApp::new().app_data(shared.clone()).wrap(from_fn(requests::handle)).configure(endpoints);
    let server = HttpServer::new(application)
        .workers(settings.server.http_workers)
        .shutdown_timeout(settings.server.shutdown_timeout_seconds)
        .disable_signals()
        .keep_alive(KEEP_ALIVE)
        .tcp_nodelay(true)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        // A client that closes its side is gone, and its statement is cancelled.
        .h1_allow_half_closed(false)
        .on_connect(move |connection, extensions| {
            extensions.insert(ConnectionRate::default());
            extensions.insert(figures.connected());
            socket::remember(connection, extensions);
        });
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}

async fn stop(handle: &ServerHandle, is_drained: bool, signals: &mut Signals) {
    tokio::select! {
        () = handle.stop(is_drained) => {}
        _ = signals.next() => handle.stop(false).await,
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Says that the server takes requests, in the words that scripts wait for.
fn ready(scheme: &str, address: SocketAddr) {
    tracing::info!(%address, scheme, version = env!("CARGO_PKG_VERSION"), "listening");
    announce(&format!("KalamDB listening on {scheme}://{address}"));
}

#[expect(clippy::print_stdout, reason = "the start is announced to whoever started the server; the log is elsewhere")]
fn announce(line: &str) {
    println!("{line}");
    // A closed standard output is no reason to stop.
    let _unread = std::io::stdout().flush();
}
