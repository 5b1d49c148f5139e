//! A server for the command line, and the command line as it is started by people and scripts.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

/// The password of root.
pub(crate) const PASSWORD: &str = "correct horse";
const READY: &str = "KalamDB listening on ";

/// Where the programs lie.
pub(crate) fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_kalam")).parent().expect("a directory").to_owned()
}

/// A server on a free port, with a directory for whoever talks to it. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    pub(crate) url: String,
    pub(crate) directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

impl Server {
    /// Starts one, fast rather than safe from power cuts; settings are `SECTION__KEY`.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        Self::on(tempfile::tempdir().expect("a directory"), settings)
    }

    /// Kills it, and starts it again on its data and at its address.
    pub(crate) fn killed_and_started_again(mut self) -> Self {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
        let port = self.url.rsplit_once(':').map(|(_, port)| port.to_owned()).expect("a port");
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().expect("a directory"));
        Self::on(directory, &[("SERVER__PORT", &port)])
    }

    fn on(directory: TempDir, settings: &[(&str, &str)]) -> Self {
        let binary = programs().join("kalamdb-server");
        assert!(binary.exists(), "the server is not built: cargo build --release --workspace --bins");
        let mut command = Command::new(binary);
        command.env_clear().current_dir(directory.path()).stdout(Stdio::piped()).stderr(Stdio::null());
        let fast = [("AUTH__ARGON2_MEMORY_KIB", "64"), ("HOT__DURABILITY", "buffered"), ("SERVER__PORT", "0")];
        command.env("KALAMDB_ROOT_PASSWORD", PASSWORD);
        let settings = fast.iter().chain(settings);
        command.envs(settings.map(|(name, value)| (format!("KALAMDB_{name}"), value)));
        command.env("KALAMDB_STORAGE__DATA_DIR", directory.path().join("data"));
        let mut child = command.spawn().expect("it starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let url = loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).expect("readable") > 0, "the server ended: {:?}", child.wait());
            if let Some(url) = line.trim().strip_prefix(READY) {
                break url.to_owned();
            }
        };
        Self { child, _stdout: stdout, url, directory }
    }

    /// A file in the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The environment of whoever is root here.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let home = self.directory.path().display().to_string();
        vec![("KALAM_URL", self.url.clone()), ("KALAM_PASSWORD", PASSWORD.to_owned()), ("HOME", home)]
    }

    /// `kalam` with arguments, as root, without a terminal.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kalam"));
        command.args(arguments).env_clear().envs(self.environment()).current_dir(self.directory.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs it.
    pub(crate) fn kalam(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("it runs")
    }

    /// Runs it, and gives what it writes to its standard output.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.kalam(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs it, and gives its exit status and what it complains of.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.kalam(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        (output.status.code().expect("it ended by itself"), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs SQL, and gives its rows as CSV without a header.
    pub(crate) fn rows(&self, sql: &str) -> Vec<String> {
        self.says(&["--format", "csv", "-c", sql]).lines().skip(1).map(ToOwned::to_owned).collect()
    }
}
