//! A full disk: a small one, in memory, of which only the server and this test know. What cannot be written is refused and
//! says why, nothing that was acknowledged is lost, reads go on, and so do writes when there is space again.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::load::Dice;
use crate::server::{Home, Reply, Server};

const DISK_MIB: usize = 64;
const BALLAST_MIB: usize = 16;
/// Characters in the text of a row.
const TEXT_CHARS: usize = 200_000;

/// A file system in memory over a home's data directory, in a namespace that a process holds.
struct SmallDisk {
    holder: Child,
    home: Home,
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ended_already = self.holder.kill();
        let _ended_already = self.holder.wait();
    }
}

impl SmallDisk {
    /// Needs a system that lets its users have namespaces of their own.
    fn new(settings: &[(&str, &str)]) -> Self {
        let mut home = Home::new(settings);
        fs::create_dir(home.data()).unwrap();
        let hold =
            format!("mount -t tmpfs -o size={DISK_MIB}m tmpfs '{}' && echo mounted && exec cat", home.data().display());
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", &hold]).stdin(Stdio::piped());
        let mut holder = unshare.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n", "this system gives no namespaces to its users, which the test needs");
        let target = holder.id().to_string();
        home.run_by(&["nsenter", "--preserve-credentials", "--user", "--mount", "--target", &target]);
        Self { holder, home }
    }

    /// A file of the disk, as it is seen from outside.
    fn file(&self, name: &str) -> PathBuf {
        let data = self.home.data();
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(data.strip_prefix("/").unwrap()).join(name)
    }

    /// Takes space away, which [`Self::drop_ballast`] gives back.
    fn load_ballast(&self) {
        fs::write(self.file("ballast"), vec![1; BALLAST_MIB << 20]).unwrap();
    }

    fn drop_ballast(&self) {
        fs::remove_file(self.file("ballast")).unwrap();
    }

    /// Writes until nothing fits any more, after what was written before.
    fn fill(&self) {
        let mut file = fs::File::options().create(true).append(true).open(self.file("fill")).unwrap();
        let page = [1; 4096];
        while file.write_all(&page).is_ok() {}
    }

    fn drop_fill(&self) {
        fs::remove_file(self.file("fill")).unwrap();
    }
}

/// A row whose text nobody makes shorter.
fn insert(id: usize) -> String {
    let mut dice = Dice::new(id as u64);
    let letters = (0..TEXT_CHARS).map(|_| char::from(b'0' + u8::try_from(dice.below(64)).unwrap()));
    let text: String = letters.collect();
    format!("INSERT INTO app.t VALUES ({id}, '{text}')")
}

/// Inserts from `next` on until a row is refused. The refusal, and the id of the row.
async fn insert_until_refused(server: &Server, mut next: usize) -> (Reply, usize) {
    loop {
        let reply = server.ask(&insert(next)).await;
        if reply.status != 200 {
            return (reply, next);
        }
        next += 1;
        assert!(next * TEXT_CHARS < 2 * (DISK_MIB << 20), "the disk takes more than it has room for");
    }
}

async fn assert_rows(server: &Server, count: usize) {
    let sum: usize = (0..count).sum();
    let expected = json!([[count.to_string(), if count == 0 { json!(null) } else { json!(sum.to_string()) }]]);
    assert_eq!(server.rows("SELECT count(*), sum(id) FROM app.t").await, expected);
    for id in [0, count / 2, count - 1] {
        let found = server.rows(&format!("SELECT character_length(note) FROM app.t WHERE id = {id}")).await;
        assert_eq!(found, json!([[TEXT_CHARS]]), "row {id}");
    }
}

async fn start() -> (SmallDisk, Server) {
    let settings = [("HOT__DURABILITY", "sync"), ("HOT__WRITE_BUFFER_MIB", "4")];
    let disk = SmallDisk::new(&settings);
    let server = disk.home.start().await;
    server.sql("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, note TEXT)").await;
    (disk, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_fill_the_disk_are_refused_and_go_on_when_there_is_space() {
    let (disk, server) = start().await;
    disk.load_ballast();
    let (refusal, mut count) = insert_until_refused(&server, 0).await;
    let (status, _, message) = refusal.error();
    assert!(matches!(status, 500 | 503) && message.contains("the disk is full"), "{refusal:?}");
    let mut refused = 0;
    while refused < 5 {
        // The hot tier tidies up, and may find space for a row more.
        disk.fill();
        let reply = server.ask(&insert(count)).await;
        let is_there = server.rows(&format!("SELECT id FROM app.t WHERE id = {count}")).await != json!([]);
        if reply.status == 200 {
            assert!(is_there);
        } else {
            let (status, code, message) = reply.error();
            let is_in_doubt = (status, code) == (500, "INTERNAL_ERROR") && message.contains("may or may not");
            assert!((status, code) == (503, "OVERLOADED") || is_in_doubt, "{reply:?}");
            assert!(message.contains("the disk is full"), "{message}");
            refused += 1;
        }
        // A refused row is absent, or there as a whole.
        count += usize::from(is_there);
        assert_rows(&server, count).await;
    }
    disk.drop_fill();
    disk.drop_ballast();
    server.sql(&insert(count)).await;
    count += 1;
    assert_rows(&server, count).await;
    let server = server.stop().start().await;
    assert_rows(&server, count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_fills_the_disk_fails_and_is_done_when_there_is_space() {
    let (disk, server) = start().await;
    for id in 0..20 {
        server.sql(&insert(id)).await;
    }
    server.flush("app.t").await;
    for id in 20..30 {
        server.sql(&insert(id)).await;
    }
    disk.fill();
    let refusal = server.ask("STORAGE FLUSH TABLE app.t WAIT").await;
    assert_ne!(refusal.status, 200, "{refusal:?}");
    assert!(refusal.error().2.contains("the disk is full"), "{refusal:?}");
    assert_rows(&server, 30).await;
    disk.drop_fill();
    server.flush("app.t").await;
    assert_rows(&server, 30).await;
    server.sql(&insert(30)).await;
    let server = server.stop().start().await;
    assert_rows(&server, 31).await;
}
