//! The figures of the process, under the names that Prometheus has for them, and of the disk that its data lies on: read
//! from `/proc` and the file system when somebody asks.

use std::path::{Path, PathBuf};

use kalamdb_core::metrics::{MetricFamily, registered};
use prometheus::core::{Collector, Desc};
use prometheus::{Counter, IntGauge, Opts, Registry};

/// Ticks of the CPU clock in a second, as Linux shows it to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// The figures.
#[derive(Debug, Clone)]
struct Process {
    memory: IntGauge,
    threads: IntGauge,
    files: IntGauge,
    cpu: Counter,
    disk: IntGauge,
    disk_available: IntGauge,
    data_dir: PathBuf,
}

/// Registers them, and the server's version.
pub(crate) fn register(registry: &Registry, data_dir: &Path, started_ms: i64) {
    let gauge =
        |name: &str, help: &str| IntGauge::new(name, help).unwrap_or_else(|error| unreachable!("{name}: {error}"));
    let cpu = Counter::new("process_cpu_seconds_total", "Seconds of CPU that the process has used.");
    let process = Process {
        memory: gauge("process_resident_memory_bytes", "Memory of the process that is in RAM."),
        threads: gauge("process_threads", "Threads of the process."),
        files: gauge("process_open_fds", "Files and sockets that the process has open."),
        cpu: cpu.unwrap_or_else(|error| unreachable!("{error}")),
        disk: gauge("kalamdb_disk_bytes", "Size of the file system that the data directory lies on."),
        disk_available: gauge("kalamdb_disk_available_bytes", "What of it is free for the server."),
        data_dir: data_dir.to_owned(),
    };
    registry.register(Box::new(process)).unwrap_or_else(|error| unreachable!("{error}"));
    let started: IntGauge =
        registered(registry, "process_start_time_seconds", "When the process began, in seconds since 1970.", &[]);
    started.set(started_ms / 1_000);
    let version = IntGauge::with_opts(
        Opts::new("kalamdb_build_info", "1, with the server's version.")
            .const_label("version", env!("CARGO_PKG_VERSION")),
    );
    let version = version.unwrap_or_else(|error| unreachable!("{error}"));
    version.set(1);
    registry.register(Box::new(version)).unwrap_or_else(|error| unreachable!("{error}"));
}

impl Process {
    fn gauges(&self) -> [&IntGauge; 5] {
        [&self.memory, &self.threads, &self.files, &self.disk, &self.disk_available]
    }

    /// What cannot be read keeps its last value.
    fn read(&self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<i64>().ok())
        };
        if let Some(kib) = field("VmRSS") {
            self.memory.set(kib << 10);
        }
        if let Some(threads) = field("Threads") {
            self.threads.set(threads);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.files.set(i64::try_from(files.count()).unwrap_or(i64::MAX));
        }
        if let Ok(disk) = rustix::fs::statvfs(&self.data_dir) {
            let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX);
            self.disk.set(bytes(disk.f_blocks));
            self.disk_available.set(bytes(disk.f_bavail));
        }
        if let Some(seconds) = cpu_seconds(&std::fs::read_to_string("/proc/self/stat").unwrap_or_default()) {
            self.cpu.reset();
            self.cpu.inc_by(seconds);
        }
    }
}

/// The time in user and system mode. The command's name stands in brackets before them, and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges().into_iter().flat_map(|gauge| gauge.desc()).chain(self.cpu.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.read();
        self.gauges().into_iter().flat_map(|gauge| gauge.collect()).chain(self.cpu.collect()).collect()
    }
}

#[cfg(test)]
mod tests;
