//! A disk that loses power. What is on it afterwards is made from a record of the syncs alone, which a library that is
//! preloaded into the server keeps (`tests/power_cut/recorder.c` says how).

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use tempfile::TempDir;

use crate::server::Home;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/power_cut/recorder.c");

/// Where syncs are noted: those that were recorded, and those that were forgotten.
const BOOKS: [&str; 2] = ["journal", "forgotten"];

/// How much of what nobody synced has reached the disk all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    Nothing,
    /// A beginning of what was appended to a file; nothing of a change of names.
    Part,
    All,
}

/// Decides for a path: the name of a file or directory, or what was appended to a file.
pub(crate) type Luck<'a> = dyn FnMut(&Path) -> Reached + Send + 'a;

/// A file or directory by itself, whatever its names: inode and time of birth.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity(String);

impl Identity {
    fn of(path: &Path) -> Self {
        let metadata = fs::symlink_metadata(path).unwrap();
        let born = metadata.created().unwrap().duration_since(UNIX_EPOCH).unwrap();
        Self(format!("{}-{}", metadata.ino(), born.as_nanos()))
    }
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    is_directory: bool,
    identity: Identity,
}

type Listing = BTreeMap<OsString, Entry>;

/// The record of what is durable below a [`Home`].
#[derive(Debug)]
pub(crate) struct Disk {
    shadow: TempDir,
}

impl Disk {
    /// Puts the recorder under the servers that are started from now on, in a directory that is still empty.
    pub(crate) fn under(home: &mut Home) -> Self {
        let disk = Self { shadow: tempfile::tempdir().unwrap() };
        home.set_variable("LD_PRELOAD", library());
        home.set_variable("POWER_CUT_SHADOW", disk.shadow.path());
        disk
    }

    /// Goes on from a disk that was synced as a whole.
    pub(crate) fn sync(&self, home: &Home) {
        for (name, _) in list(self.shadow.path()) {
            if !BOOKS.iter().any(|book| name == *book) {
                fs::remove_file(self.shadow.path().join(name)).unwrap();
            }
        }
        let data = home.data();
        let only_data = Listing::from([("data".into(), Entry { is_directory: true, identity: Identity::of(&data) })]);
        self.record_listing(&Identity::of(home.root()), &only_data);
        self.record(&data);
    }

    fn record(&self, directory: &Path) {
        let listing = list(directory);
        self.record_listing(&Identity::of(directory), &listing);
        for (name, entry) in listing {
            let path = directory.join(name);
            if entry.is_directory {
                self.record(&path);
            } else {
                fs::copy(&path, self.shadow.path().join(format!("file-{}", entry.identity.0))).unwrap();
            }
        }
    }

    fn record_listing(&self, directory: &Identity, listing: &Listing) {
        let mut bytes = Vec::new();
        for (name, entry) in listing {
            bytes.extend(format!("{} {} ", if entry.is_directory { 'd' } else { 'f' }, entry.identity.0).bytes());
            bytes.extend(name.as_bytes());
            bytes.push(0);
        }
        fs::write(self.shadow.path().join(format!("dir-{}", directory.0)), bytes).unwrap();
    }

    fn listing(&self, directory: &Identity) -> Listing {
        let bytes = fs::read(self.shadow.path().join(format!("dir-{}", directory.0))).unwrap_or_default();
        let entry = |line: &[u8]| {
            let mut parts = line.splitn(3, |byte| *byte == b' ').map(<[u8]>::to_owned);
            let is_directory = parts.next().unwrap() == b"d";
            let identity = Identity(String::from_utf8(parts.next().unwrap()).unwrap());
            (OsString::from_vec(parts.next().unwrap()), Entry { is_directory, identity })
        };
        bytes.split(|byte| *byte == 0).filter(|line| !line.is_empty()).map(entry).collect()
    }

    fn noted(&self, book: &str) -> Vec<String> {
        let notes = fs::read_to_string(self.shadow.path().join(book)).unwrap_or_default();
        notes.lines().map(ToOwned::to_owned).collect()
    }

    /// Leaves out those syncs from now on that the rule is about, as if the product's line were missing.
    pub(crate) fn forget(home: &mut Home, rule: &str) {
        home.set_variable("POWER_CUT_FORGETS", rule);
    }

    /// `file <path>` or `dir <path>` for each sync since the disk was new.
    pub(crate) fn syncs(&self) -> Vec<String> {
        self.noted(BOOKS[0])
    }

    /// Whether a sync was left out by the rule of `POWER_CUT_FORGETS`.
    pub(crate) fn has_forgotten(&self) -> bool {
        !self.noted(BOOKS[1]).is_empty()
    }

    /// The power goes out, and comes back: the data directory of a server that is gone becomes what is durable, and
    /// what luck adds to it.
    pub(crate) fn cut(&self, home: &Home, luck: &mut Luck<'_>) {
        let (data, rebuilt) = (home.data(), home.root().join("rebuilt"));
        let mut alive = HashMap::new();
        find(&data, &mut alive);
        let durable = self.listing(&Identity::of(home.root()));
        fs::create_dir(&rebuilt).unwrap();
        let found = durable.get(data.file_name().unwrap()).cloned();
        if let Some(entry) = &found {
            let mut cut = Cut { disk: self, alive, luck };
            cut.directory(&entry.identity, Path::new(""), &rebuilt);
        }
        fs::remove_dir_all(&data).unwrap();
        fs::rename(&rebuilt, &data).unwrap();
        self.sync(home);
    }
}

/// Making a tree anew.
struct Cut<'a, 'b> {
    disk: &'a Disk,
    /// Where everything was that was not removed.
    alive: HashMap<Identity, PathBuf>,
    luck: &'a mut Luck<'b>,
}

impl Cut<'_, '_> {
    fn directory(&mut self, identity: &Identity, path: &Path, to: &Path) {
        let durable = self.disk.listing(identity);
        let live = self.alive.get(identity).map_or_else(Listing::new, |directory| list(directory));
        let names: std::collections::BTreeSet<&OsString> = durable.keys().chain(live.keys()).collect();
        for name in names {
            let (path, to) = (path.join(name), to.join(name));
            let (old, new) = (durable.get(name), live.get(name));
            let entry = if old == new || (self.luck)(&path) != Reached::All { old } else { new };
            match entry {
                Some(entry) if entry.is_directory => {
                    fs::create_dir(&to).unwrap();
                    self.directory(&entry.identity, &path, &to);
                }
                Some(entry) => fs::write(&to, self.content(&entry.identity, &path)).unwrap(),
                None => {}
            }
        }
    }

    fn content(&mut self, identity: &Identity, path: &Path) -> Vec<u8> {
        let durable = fs::read(self.disk.shadow.path().join(format!("file-{}", identity.0))).unwrap_or_default();
        let Some(live) = self.alive.get(identity).map(|file| fs::read(file).unwrap()) else { return durable };
        if live == durable {
            return durable;
        }
        match (self.luck)(path) {
            Reached::Nothing => durable,
            Reached::Part => live[..durable.len().midpoint(live.len()).min(live.len())].to_owned(),
            Reached::All => live,
        }
    }
}

fn list(directory: &Path) -> Listing {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let entry = |entry: fs::DirEntry| {
        let is_directory = entry.file_type().unwrap().is_dir();
        (entry.file_name(), Entry { is_directory, identity: Identity::of(&entry.path()) })
    };
    entries.map(entry).collect()
}

fn find(directory: &Path, found: &mut HashMap<Identity, PathBuf>) {
    found.insert(Identity::of(directory), directory.to_owned());
    for (name, entry) in list(directory) {
        let path = directory.join(name);
        if entry.is_directory {
            find(&path, found);
        } else {
            found.insert(entry.identity, path);
        }
    }
}

/// The recorder, which is compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (library, aside) =
            (directory.join("power_cut.so"), directory.join(format!("power_cut-{}.so", std::process::id())));
        let arguments = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-pthread", "-o"];
        let compiled = Command::new("cc").args(arguments).arg(&aside).arg(SOURCE).output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        // Another test program may be using it.
        fs::rename(&aside, &library).unwrap();
        library
    })
}
