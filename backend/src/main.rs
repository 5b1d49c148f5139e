//! The KalamDB server: HTTP in front of the engine.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | settings: read, validated, printed |
//! | [`lifecycle`] | start and stop |
//! | [`app`] | what every request shares |
//! | [`requests`], [`routes`] | what is done for every request; the endpoints |
//! | [`process`] | memory and CPU, for the figures |
//! | [`answer`], [`encode`] | SQL answers, and Arrow as JSON cells |
//! | [`work`] | on which thread a request is carried out |
//! | [`reply`] | answers on their way from the engine's threads to HTTP |
//! | [`live`] | live queries over WebSocket |
//! | [`import`] | bodies of rows into tables |
//! | [`openapi`], [`shapes`] | the document of the interface |
//! | [`tls`] | the certificate |
//! | [`traces`] | spans to a collector |
//! | [`errors`] | error kinds as status and code |
//! | [`fail_points`] | what the crash tests arm |

mod answer;
mod app;
mod config;
mod encode;
mod errors;
mod fail_points;
mod import;
mod lifecycle;
mod live;
mod openapi;
mod process;
mod reply;
mod requests;
mod routes;
mod shapes;
mod tls;
mod traces;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// The KalamDB server.
#[derive(Debug, Parser)]
#[command(name = "kalamdb-server", version)]
struct Arguments {
    /// The settings; ./server.toml if it is there and nothing else is said.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the settings, say everything that is wrong with them, and end.
    #[arg(long)]
    check_config: bool,
    /// Print the settings in force and where each comes from, and end.
    #[arg(long, conflicts_with = "check_config")]
    print_config: bool,
    /// Print server.example.toml, and end.
    #[arg(long, hide = true)]
    print_example_config: bool,
}

fn main() -> ExitCode {
    config::heaps::limit();
    match act(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaints) => {
            complain(&complaints);
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: &Arguments) -> Result<(), Vec<String>> {
    if arguments.print_example_config {
        say(&config::print::example());
        return Ok(());
    }
    let loaded = config::load(arguments.config.as_deref())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    if arguments.check_config {
        loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}\n")));
        say("The settings are valid.\n");
        return Ok(());
    }
    if arguments.print_config {
        say(&config::print::effective(&loaded));
        return Ok(());
    }
    lifecycle::run(loaded).map_err(|error| vec![error])
}

#[expect(clippy::print_stdout, reason = "it was asked for on the command line")]
fn say(text: &str) {
    print!("{text}");
}

#[expect(clippy::print_stderr, reason = "the log may not have started, and an exit says why")]
fn complain(complaints: &[String]) {
    for complaint in complaints {
        eprintln!("kalamdb-server: {complaint}");
    }
}
