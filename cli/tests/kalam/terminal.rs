//! `kalam` in a real terminal: what is typed, and what stands on the screen then. The terminal is tmux's, which
//! `scripts/setup.sh tests` installs.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::server::{PASSWORD, Server};
use kalamdb_commons::clock::Stopwatch;

const DEADLINE: Duration = Duration::from_secs(30);

/// A terminal of 100 columns and 30 lines, in which `kalam` runs.
struct Terminal {
    /// Of a tmux of its own: one that ends takes a moment, and must not be met by the next.
    socket: PathBuf,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

impl Terminal {
    /// Starts `kalam` with arguments, and waits for its prompt.
    fn start(server: &Server, environment: &[(&str, &str)], arguments: &str) -> Self {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let socket = server.file(&format!("tmux-{}", STARTED.fetch_add(1, Ordering::Relaxed)));
        let terminal = Self { socket };
        let kalam = env!("CARGO_BIN_EXE_kalam");
        let root = server.environment();
        let root = root.iter().map(|(name, value)| (*name, value.as_str()));
        let environment: String =
            root.chain(environment.iter().copied()).map(|(name, value)| format!("export {name}='{value}'; ")).collect();
        let directory = server.directory.path().display();
        let command = format!("cd '{directory}'; {environment}'{kalam}' {arguments}; sleep 1000");
        let started = terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", &command]);
        assert!(started.status.success(), "tmux: {}", String::from_utf8_lossy(&started.stderr));
        terminal
    }

    /// Our own tmux, whose socket lies in the test's directory.
    fn tmux(&self, arguments: &[&str]) -> Output {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&self.socket).args(arguments).env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        tmux.output().expect("tmux is installed: scripts/setup.sh tests")
    }

    /// Types text as it is.
    fn types(&self, text: &str) {
        // To tmux a `;` at the end is the end of its own command.
        let text = text.strip_suffix(';').map_or_else(|| text.to_owned(), |rest| format!("{rest}\\;"));
        self.tmux(&["send-keys", "-l", &text]);
    }

    /// Presses keys by their names.
    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a line and Enter.
    fn enters(&self, line: &str) {
        self.types(line);
        self.press(&["Enter"]);
    }

    fn screen(&self) -> String {
        String::from_utf8(self.tmux(&["capture-pane", "-p", "-J"]).stdout).unwrap()
    }

    /// Waits until the screen is as it should be, and gives it.
    fn shows(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let watch = Stopwatch::start();
        loop {
            let screen = self.screen();
            if holds(&screen) {
                return screen;
            }
            assert!(watch.elapsed() < DEADLINE, "{what} is not on the screen:\n{screen}");
        }
    }

    fn shows_text(&self, text: &str) -> String {
        self.shows(text, |screen| screen.contains(text))
    }

    /// Forgets what is on the screen.
    fn clear(&self) {
        self.press(&["C-l"]);
        self.shows("an empty screen", |screen| screen.trim().lines().count() <= 1);
    }
}

fn with_tables() -> Server {
    let server = Server::start(&[]);
    server.says(&[
        "-c",
        "CREATE NAMESPACE app; CREATE SHARED TABLE app.messages (id BIGINT PRIMARY KEY, wondrous_column TEXT); \
         INSERT INTO app.messages VALUES (1, 'one'), (2, 'two')",
    ]);
    server
}

#[test]
fn tab_completes_keywords_tables_columns_and_commands() {
    let server = with_tables();
    let terminal = Terminal::start(&server, &[], "");
    terminal.shows_text("kalam=> ");
    for (typed, completed) in [
        ("sel", "select"),
        ("SELECT * FROM app.mes", "SELECT * FROM app.messages"),
        ("SELECT wondr", "SELECT wondrous_column"),
        ("\\conn", "\\conninfo"),
    ] {
        terminal.types(typed);
        terminal.press(&["Tab"]);
        terminal.shows_text(&format!("kalam=> {completed}"));
        terminal.press(&["C-u"]);
        terminal.clear();
    }
    terminal.enters("CREATE SHARED TABLE app.newcomer (x INT);");
    terminal.shows_text("created");
    terminal.types("SELECT * FROM app.newc");
    terminal.press(&["Tab"]);
    terminal.shows_text("SELECT * FROM app.newcomer");
}

#[test]
fn commands_describe_time_and_set() {
    let server = with_tables();
    let terminal = Terminal::start(&server, &[], "");
    terminal.shows_text("kalam=> ");
    terminal.enters("\\d");
    terminal.shows("the tables", |screen| screen.contains("messages") && screen.contains("BASE TABLE"));
    terminal.clear();
    terminal.enters("\\d app.messages");
    terminal.shows("the columns, in the pager", |screen| screen.contains("wondrous_column"));
    terminal.press(&["q"]);
    terminal.shows("the prompt again", |screen| screen.trim_end().ends_with("kalam=>"));
    terminal.clear();
    terminal.enters("\\conninfo");
    terminal.shows_text(&format!("root at {}", server.url));
    terminal.enters("\\timing on");
    terminal.shows_text("Timing is on.");
    terminal.enters("\\set who 'two'");
    // What is typed between two prompts is nobody's.
    terminal.shows("the next prompt", |screen| screen.contains("\\set who 'two'\nkalam=>"));
    terminal.enters("SELECT id * 111 AS found FROM app.messages");
    terminal.enters("WHERE wondrous_column = :'who';");
    terminal.shows("the answer and its time", |screen| screen.contains("222") && screen.contains("Time: "));
    terminal.clear();
    terminal.enters("\\set");
    terminal.shows_text("who = 'two'");
    terminal.enters("\\nonsense");
    terminal.shows_text("\\? lists them");
    terminal.enters("\\u app");
    terminal.shows_text("app=> ");
    terminal.enters("SELECT count(*) * 500 FROM messages;");
    terminal.shows_text("1000");
    terminal.press(&["Up"]);
    terminal
        .shows("the line from before", |screen| screen.matches("SELECT count(*) * 500 FROM messages;").count() == 2);
}

#[test]
fn long_results_go_through_the_pager_and_short_ones_do_not() {
    let server = with_tables();
    let terminal = Terminal::start(&server, &[("PAGER", "tail -n 3 | sed \"s/^/paged: /\"")], "");
    terminal.shows_text("kalam=> ");
    terminal.enters("SELECT 'short' AS a;");
    terminal.shows("a short result", |screen| {
        screen.contains("short") && screen.contains("(1 row)") && !screen.contains("paged: ")
    });
    terminal.enters("SELECT value FROM generate_series(1, 100);");
    terminal.shows_text("paged: (100 rows)");
    terminal.clear();
    terminal.enters("\\pager off");
    terminal.shows_text("Paging is off.");
    terminal.enters("SELECT value FROM generate_series(1, 100);");
    terminal.shows("a long result without its beginning", |screen| screen.contains("\n(100 rows)"));
}

#[test]
fn ctrl_c_ends_a_statement_and_not_the_program() {
    let server = with_tables();
    let terminal = Terminal::start(&server, &[], "");
    terminal.shows_text("kalam=> ");
    terminal.enters("SELECT count(*) FROM generate_series(1, 1000000000000) WHERE value % 7 = 3;");
    // What is pressed before the statement has been sent is not about it. The question counts too.
    let running = "SELECT parallel_statements FROM system.user_usage WHERE user_id = 'root'";
    while server.rows(running) != ["2"] {}
    terminal.press(&["C-c"]);
    terminal.shows_text("interrupted");
    terminal.enters("SELECT 6 * 111 AS still_here;");
    terminal.shows_text("666");
    terminal.press(&["C-d"]);
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    let server = Server::start(&[]);
    let terminal = Terminal::start(&server, &[], "login");
    terminal.shows_text("is remembered");
    drop(terminal);
    let again = format!("--version; unset KALAM_PASSWORD; '{}'", env!("CARGO_BIN_EXE_kalam"));
    let terminal = Terminal::start(&server, &[("KALAM_CREDENTIALS", "none")], &again);
    terminal.shows_text("Password of root: ");
    terminal.types(PASSWORD);
    let screen = terminal.shows_text(&"*".repeat(PASSWORD.len()));
    assert!(!screen.contains(PASSWORD), "{screen}");
    terminal.press(&["Enter"]);
    terminal.shows_text("kalam=> ");
}

#[test]
fn an_import_shows_how_far_it_is() {
    let server = with_tables();
    let rows: String = (10..200_000).map(|n| format!("{n},x{n}\n")).collect();
    std::fs::write(server.file("rows.csv"), format!("id,wondrous_column\n{rows}")).unwrap();
    let terminal = Terminal::start(&server, &[], "import --table app.messages rows.csv");
    terminal.shows_text("Imported 199990 rows");
}
