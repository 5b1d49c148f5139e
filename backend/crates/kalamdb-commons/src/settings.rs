//! Every setting: its type, default, unit and what it trades.
//!
//! The server reads them once, from `server.toml` and the environment, validates them whole with
//! [`Settings::problems`], and shares them as one value (FR-082 to FR-087). Each section is a struct; the
//! field's documentation is the reference, and `server.example.toml` carries the same words.

use serde::{Deserialize, Serialize};

/// How durable an acknowledged write is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Synced to disk, by group commit, before the answer. Survives a power cut.
    #[default]
    Sync,
    /// Handed to the operating system before the answer. Survives a killed process, not a power cut.
    Buffered,
}

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $field_doc:literal])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[doc = $field_doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            /// Each key of the section with its documentation, for `server.example.toml`, `--print-config` and
            /// `system.settings`.
            pub const KEYS: &'static [(&'static str, &'static str)] =
                &[$((stringify!($field), concat!($($field_doc),*)),)*];
        }
    };
}

section! {
    /// `[server]`: who the node is and where it listens.
    ServerSettings {
        /// The node's name: hashed into every row id. Must be unique among nodes that share data, and must not change.
        node_id: String = "node-1".to_owned(),
        /// The address to listen on.
        host: String = "127.0.0.1".to_owned(),
        /// The port to listen on; 0 takes a free one and prints it.
        port: u16 = 8080,
        /// How clients reach the server if not at its own address, for what SUBSCRIBE TO answers: behind a proxy, or listening
        /// on all addresses. `https://db.example.com`; empty for the address that it listens on.
        public_url: String = String::new(),
        /// The file with the server's certificate and those that lead to its issuer, in PEM form; empty for no TLS. With
        /// one the server speaks TLS 1.2 and 1.3 and nothing else. Read at the start.
        tls_cert_file: String = String::new(),
        /// The file with the certificate's private key, in PEM form.
        tls_key_file: String = String::new(),
        /// Must be true to listen beyond loopback without TLS: passwords cross the network in the clear then.
        allow_plaintext_remote: bool = false,
        /// HTTP worker threads. More serve more connections at once and cost memory.
        http_workers: usize = 2,
        /// How long a server that is told to stop goes on answering, in seconds, although nothing runs any more: long enough
        /// for whoever sends it requests to see at `/health/ready` that it should not. New requests get 503 meanwhile.
        drain_seconds: u64 = 0,
        /// How long a graceful stop waits for requests in flight, in seconds.
        shutdown_timeout_seconds: u64 = 10,
    }
}

section! {
    /// `[storage]`: where data lies.
    StorageSettings {
        /// The directory of the hot tier and, below `storage`, of the local cold tier.
        data_dir: String = "./data".to_owned(),
        /// What seals the credentials of storages that SQL makes, at least 32 bytes; empty for a key that is made when it is
        /// first needed and kept in `secrets.key` in the data directory, readable by its owner alone.
        secrets_key: String = String::new(),
        /// The id under which tables name the S3 storage (`STORAGE_ID='s3'`). Used if `s3_bucket` is set.
        s3_id: String = "s3".to_owned(),
        /// The S3 bucket; empty for no S3 storage.
        s3_bucket: String = String::new(),
        /// The S3 region.
        s3_region: String = "us-east-1".to_owned(),
        /// The S3 endpoint, for stores other than AWS; empty for AWS.
        s3_endpoint: String = String::new(),
        /// A prefix for all keys in the bucket.
        s3_prefix: String = String::new(),
        /// The access key id; empty for the machine's own credentials.
        s3_access_key_id: String = String::new(),
        /// The secret access key. Never shown.
        s3_secret_access_key: String = String::new(),
        /// Whether plain HTTP to the endpoint is allowed. For tests and private networks.
        s3_allow_http: bool = false,
    }
}

section! {
    /// `[hot]`: the hot tier.
    HotSettings {
        /// `sync` or `buffered`. Buffered is faster and may lose the last moments in a power cut.
        durability: Durability = Durability::Sync,
        /// RocksDB's block cache, in MiB. Larger makes reads of hot rows that left the write buffer faster.
        block_cache_mib: usize = 16,
        /// RocksDB's write buffers together, in MiB. Larger means fewer, larger hot files and more memory.
        write_buffer_mib: usize = 32,
        /// Hot bytes at which a flush of the largest partitions starts by itself, in MiB.
        flush_at_mib: u64 = 256,
        /// Hot bytes at which new writes get 503 until a flush has caught up, in MiB.
        hard_limit_mib: u64 = 1024,
        /// Statements waiting to be committed; beyond it writes get 503 at once.
        commit_queue_max: usize = 4096,
        /// Changes in one group commit. Larger groups amortise the sync over more statements.
        group_changes_max: usize = 20_000,
        /// How long change-log entries and the versions they point to are kept, in seconds. A cursor older than that is
        /// served from the rows themselves, changes of one row merged; one of a STREAM table must resynchronise. Longer
        /// costs disk.
        change_log_retention_seconds: u64 = 3_600,
        /// How often change logs are trimmed that no flush trims, in seconds.
        change_log_trim_interval_seconds: u64 = 60,
    }
}

section! {
    /// `[flush]`: when partitions become history. A table's FLUSH_POLICY overrides the first two.
    FlushSettings {
        /// Hot rows in a partition at which it is flushed. Fewer, larger batches read faster; more hot rows cost memory.
        rows: u64 = 100_000,
        /// Age of a partition's oldest hot row at which it is flushed, in seconds.
        interval_seconds: u64 = 3_600,
        /// How often the policy is checked, in seconds.
        check_interval_seconds: u64 = 5,
        /// Rows in one row group of a batch file. Smaller groups prune better and compress worse.
        row_group_rows: usize = 131_072,
        /// Rows in one data page. Smaller pages make point reads of history faster and files larger.
        page_rows: usize = 4_096,
    }
}

section! {
    /// `[compaction]`: when batches of history are merged.
    CompactionSettings {
        /// Whether history is compacted without being asked. It costs disk traffic now and saves it on every read.
        automatic: bool = true,
        /// How often partitions in use are looked at, in seconds.
        check_interval_seconds: u64 = 60,
        /// Neighbouring batches of about one size at which they are merged. Fewer read faster and are rewritten more often.
        batches_min: usize = 8,
        /// Rows up to which batches count as of one size, however they differ.
        small_rows: u64 = 100_000,
        /// Superseded rows and expired deletions, in percent of the rows of some neighbouring batches, at which these are
        /// merged. Lower wastes less space and rewrites more often.
        dead_percent: u64 = 30,
        /// Rows beyond which batches are not merged unless they are told to be. A merge holds some 16 bytes in memory for
        /// each row and unique key.
        rows_max: u64 = 20_000_000,
    }
}

section! {
    /// `[cold]`: reading history.
    ColdSettings {
        /// Memory for parsed footers, page indexes and Bloom filters of batch files, in MiB.
        metadata_cache_mib: u64 = 64,
        /// Open file handles of batch files.
        open_files_max: u64 = 512,
        /// Timeout of one request to an object store, in seconds.
        request_timeout_seconds: u64 = 30,
        /// How often a request to an object store that failed for a passing reason is repeated, with growing pauses.
        request_retries_max: usize = 5,
        /// The longest pause between two of them, in seconds.
        request_backoff_max_seconds: u64 = 10,
        /// How long after the first attempt a request is still repeated, in seconds.
        request_retry_seconds: u64 = 90,
    }
}

section! {
    /// `[manifest_cache]`: what is kept of manifests between planning and storage, in memory and on the node's disk.
    ManifestCacheSettings {
        /// How long a manifest is used without asking its storage whether it is still the same, in seconds. After a
        /// start each one is asked for once in any case.
        ttl_seconds: u64 = 3_600,
        /// How often entries are looked through for those to remove, in seconds.
        eviction_interval_seconds: u64 = 300,
        /// Entries that are kept on disk; beyond it those that were not used for the longest time go.
        max_entries: usize = 50_000,
        /// A partition that nobody asked for in so many seconds leaves memory; its entry on disk goes too once
        /// `ttl_seconds` have passed since it was last compared with storage.
        last_accessed_memory_window: u64 = 3_600,
        /// Memory for manifests that are ready for use, and as much again for what open partitions derive from
        /// theirs, in MiB.
        memory_mib: u64 = 32,
        /// Bytes of entries on disk, in MiB; beyond it those that were not used for the longest time go.
        disk_mib: u64 = 512,
    }
}

section! {
    /// `[limits]`: what one request may ask for.
    LimitSettings {
        /// Bytes of SQL in a request.
        sql_bytes_max: usize = 1_048_576,
        /// Statements in a request.
        statements_max: usize = 100,
        /// Parameters in a request.
        params_max: usize = 50,
        /// Bytes in one parameter.
        param_bytes_max: usize = 524_288,
        /// Bytes in the body of an SQL request.
        body_bytes_max: usize = 33_554_432,
        /// Bytes in the body of an import.
        import_bytes_max: usize = 1_073_741_824,
        /// Rows that one statement may write.
        statement_rows_max: usize = 1_000_000,
        /// Bytes of encoded rows that one statement or transaction may write.
        statement_bytes_max: usize = 268_435_456,
        /// Rows that are one atomic commit of an import.
        chunk_rows: usize = 10_000,
        /// Bytes of an answer that are held back, so that an early error still gets its status code.
        response_buffer_bytes: usize = 262_144,
        /// How long a statement may run, in seconds.
        statement_timeout_seconds: u64 = 300,
        /// How long a statement or transaction may hold its snapshot, in seconds.
        snapshot_age_max_seconds: u64 = 600,
        /// Statements running at once; beyond it requests get 503 at once.
        concurrent_statements_max: usize = 256,
        /// Memory for sorting, joining and aggregating over all queries, in MiB. Beyond it they spill to disk.
        query_memory_mib: usize = 1024,
        /// Requests that one user below `dba` may begin within a second; 0 for no limit. This and the next five are
        /// for accounts without a limit of their own (`ALTER USER ... SET LIMIT`).
        user_requests_per_second_max: u64 = 10_000,
        /// Requests of one user that may run at once; 0 for no limit. Beyond it they get 429.
        user_parallel_statements_max: u64 = 128,
        /// Rows that one user's statements may look at within a minute; 0 for no limit. What is running is not cut off:
        /// the next request waits.
        user_rows_scanned_per_minute_max: u64 = 0,
        /// Bytes that one user's statements may read from the cold tier within a minute; 0 for no limit.
        user_bytes_scanned_per_minute_max: u64 = 0,
        /// Live queries that one user may have at once; 0 for no limit.
        user_subscriptions_max: u64 = 10_000,
        /// Bytes of rows and files that one user may store; 0 for no limit. Measured every
        /// `flush.check_interval_seconds`; beyond it only DELETE is let in.
        user_storage_bytes_max: u64 = 0,
        /// Requests that one connection may begin within a second, whoever sends them; 0 for no limit.
        connection_requests_per_second_max: u64 = 10_000,
        /// How long the answer to an `Idempotency-Key` is kept, in hours.
        idempotency_hours: u64 = 24,
        /// The longest answer that is kept for an `Idempotency-Key`, in bytes.
        idempotency_answer_bytes_max: usize = 1_048_576,
    }
}

section! {
    /// `[auth]`: accounts and tokens.
    AuthSettings {
        /// The password of `root` at the first start; empty for a random one that is printed once.
        root_password: String = String::new(),
        /// The secret that signs tokens, at least 32 bytes; empty for one that is made at the first start and kept with the data.
        token_secret: String = String::new(),
        /// How long an access token is good for, in seconds.
        access_token_seconds: u64 = 3_600,
        /// How long a refresh token is good for, in seconds.
        refresh_token_seconds: u64 = 604_800,
        /// The fewest characters in a password.
        password_length_min: usize = 8,
        /// Whether new passwords that every guesser tries first, such as `password1`, are refused.
        password_refuse_common: bool = true,
        /// Memory that hashing one password takes, in KiB. More makes guessing dearer and login slower. Less than the
        /// default is for tests.
        argon2_memory_kib: u32 = 19_456,
        /// How often hashing a password goes over that memory. More makes guessing dearer and login slower.
        argon2_passes: u32 = 2,
        /// Passwords of logins that are checked at once, on threads of their own. More let more people in per second
        /// and leave less of the machine to everything else.
        logins_parallel_max: usize = 1,
        /// Failed logins of one user from one address in a minute before further ones get 429. From all addresses
        /// together it is ten times as many.
        login_failures_per_minute_max: u32 = 10,
        /// Failed logins from one address in a minute, whatever the users, before further ones get 429. Behind a
        /// proxy all logins come from the proxy's address: set it higher there.
        address_failures_per_minute_max: u32 = 100,
        /// How long a dropped user's rows and name are kept before they are purged, in hours. It is never less than a
        /// statement that began before may run.
        dropped_user_hours: u64 = 168,
        /// Whether `root` may log in from other machines.
        allow_remote_root: bool = true,
        /// Whether a new server may be set up from other machines, by whoever is first.
        allow_remote_setup: bool = false,
    }
}

section! {
    /// `[audit]`: who did what on whose behalf.
    AuditSettings {
        /// How long entries are kept, in days; 0 keeps them for good. Longer takes more space.
        retention_days: u64 = 365,
        /// Refusals of one account that are logged one by one in a minute; more are counted and logged as one entry.
        refusals_per_minute_max: u32 = 60,
        /// The key that entries are sealed with, at least 32 bytes; empty for one that is made at the first start, in the
        /// file `audit.key` of the data directory. Entries from before a change of it can no longer be verified.
        key: String = String::new(),
    }
}

section! {
    /// `[live]`: subscriptions over WebSocket.
    LiveSettings {
        /// WebSocket connections; beyond it new ones get 503.
        connections_max: usize = 10_000,
        /// Subscriptions of one connection.
        subscriptions_per_connection_max: usize = 1_000,
        /// Rows in a batch of a snapshot, unless the client says otherwise. Larger batches load faster and take more memory.
        batch_rows: usize = 1_000,
        /// The most rows in a batch that a client may ask for.
        batch_rows_max: usize = 10_000,
        /// Rows and changes that may wait for one connection, each 4 KiB of them counting as one more. Beyond it its subscriptions read the change log at the
        /// client's pace: more memory here, or more reading there.
        queue_rows_max: usize = 2_000,
        /// Bytes in a message from a client.
        message_bytes_max: usize = 1_048_576,
        /// Messages that a client may send in a second, on average; five times as many at once.
        messages_per_second_max: usize = 200,
        /// How long a connection lives without a message, ping or pong from its client, in seconds.
        idle_timeout_seconds: u64 = 30,
        /// How long a client may be behind its subscription, in seconds, before that is ended: what it has not taken is kept
        /// for it. It resumes from the last `_seq` that it has. Longer takes more space.
        behind_seconds_max: u64 = 3_600,
        /// Whether the page `/live-demo` is served: two panes, signed in as two users, to see live queries at work.
        demo_page: bool = false,
        /// How long a client may take nothing while something waits for it, in seconds. Then the connection is closed.
        send_timeout_seconds: u64 = 30,
    }
}

section! {
    /// `[jobs]`: work in the background.
    JobSettings {
        /// Jobs running at once, flushes aside. More finish sooner and leave less of the machine to everything else.
        parallel_max: usize = 2,
        /// Flushes running at once. They have places of their own: nothing else holds them up.
        flush_parallel_max: usize = 2,
        /// Jobs running on one table at once, flushes aside.
        table_parallel_max: usize = 1,
        /// Jobs waiting, flushes and others apart; beyond it new ones get 503 at once. One user, table or account may
        /// fill half of it.
        queue_max: usize = 1_000,
        /// How often a job is begun that fails for a reason that may pass: a storage or a limit, not its parameters.
        attempts_max: u32 = 5,
        /// How long it waits before its second attempt, in seconds; twice as long before each further one, and up to a
        /// quarter less or more.
        retry_seconds: u64 = 2,
        /// The longest such wait, in seconds.
        retry_seconds_max: u64 = 300,
        /// By how much each of the intervals here and in other sections is shorter or longer each time, in percent, so that
        /// what began together does not stay together.
        jitter_percent: u64 = 10,
        /// Ended jobs that are kept in `system.jobs`.
        history_max: usize = 1_000,
        /// How long ended jobs are kept there, in days.
        history_days: u64 = 30,
        /// How often jobs that ended longer ago are looked for, in seconds; 0 for never.
        history_interval_seconds: u64 = 3_600,
        /// How often files that no manifest names are looked for and removed, in seconds.
        orphan_interval_seconds: u64 = 3_600,
        /// How often dropped users whose grace is over (`auth.dropped_user_hours`) are looked for and purged, in seconds.
        user_purge_interval_seconds: u64 = 60,
        /// How often rows of STREAM tables that have expired are removed, in seconds. They are not seen before either; they
        /// take memory and disk until then.
        stream_eviction_interval_seconds: u64 = 10,
        /// How often deleted rows whose retention (`DELETED_RETENTION_HOURS`) is over are looked for and physically removed,
        /// in seconds; 0 for never. It rewrites the files that they are in, which costs disk traffic.
        deleted_row_retention_interval_seconds: u64 = 86_400,
        /// How often entries of the audit log that are older than `audit.retention_days` are removed, in seconds.
        audit_retention_interval_seconds: u64 = 3_600,
        /// How often kept answers and sessions whose time is over are removed, in seconds.
        answer_retention_interval_seconds: u64 = 3_600,
        /// How often all files are read and compared with their manifests, in seconds; 0 for never. It reads everything.
        integrity_check_interval_seconds: u64 = 0,
    }
}

section! {
    /// `[clock]`: what to make of the machine's clock.
    ClockSettings {
        /// A wall clock more than this many seconds ahead of the last commit is not followed while running, and stops
        /// the server at start unless `accept_jump` is true. It guards `_updated` against one wrong reading, for good.
        jump_max_seconds: u64 = 2_592_000,
        /// Accept a clock that is ahead by more at this start.
        accept_jump: bool = false,
    }
}

section! {
    /// `[logging]`.
    LoggingSettings {
        /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or per module as in `info,kalamdb_core=debug`.
        level: String = "info".to_owned(),
        /// `text` or `json`.
        format: String = "text".to_owned(),
        /// Statements that take longer than so many milliseconds are logged, without the values in them; 0 for none.
        slow_statement_ms: u64 = 1_000,
    }
}

section! {
    /// `[tracing]`: traces, as OpenTelemetry has them.
    TracingSettings {
        /// Where traces are sent, over HTTP with protobuf, as in `http://127.0.0.1:4318`; empty for nowhere. Nobody
        /// authenticates and nothing is encrypted: for a collector on the machine or in a private network.
        otlp_endpoint: String = String::new(),
        /// How many of a hundred requests are traced. More tell more and cost memory and network.
        sample_percent: u32 = 100,
        /// The name that traces come under.
        service_name: String = "kalamdb".to_owned(),
    }
}

section! {
    /// `[testing]`: for the crash tests. Leave it empty.
    TestingSettings {
        /// Fail points, as in `flush::after_batch=exit;commit::before_write=return`.
        fail_points: String = String::new(),
    }
}

/// All settings.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `[server]`.
    pub server: ServerSettings,
    /// `[storage]`.
    pub storage: StorageSettings,
    /// `[hot]`.
    pub hot: HotSettings,
    /// `[flush]`.
    pub flush: FlushSettings,
    /// `[compaction]`.
    pub compaction: CompactionSettings,
    /// `[cold]`.
    pub cold: ColdSettings,
    /// `[manifest_cache]`.
    pub manifest_cache: ManifestCacheSettings,
    /// `[limits]`.
    pub limits: LimitSettings,
    /// `[auth]`.
    pub auth: AuthSettings,
    /// `[audit]`.
    pub audit: AuditSettings,
    /// `[live]`.
    pub live: LiveSettings,
    /// `[jobs]`.
    pub jobs: JobSettings,
    /// `[clock]`.
    pub clock: ClockSettings,
    /// `[logging]`.
    pub logging: LoggingSettings,
    /// `[tracing]`.
    pub tracing: TracingSettings,
    /// `[testing]`.
    pub testing: TestingSettings,
}

impl Settings {
    /// Every section's name and keys with their documentation, in the order of the file.
    pub const SECTIONS: &'static [(&'static str, &'static [(&'static str, &'static str)])] = &[
        ("server", ServerSettings::KEYS),
        ("storage", StorageSettings::KEYS),
        ("hot", HotSettings::KEYS),
        ("flush", FlushSettings::KEYS),
        ("compaction", CompactionSettings::KEYS),
        ("cold", ColdSettings::KEYS),
        ("manifest_cache", ManifestCacheSettings::KEYS),
        ("limits", LimitSettings::KEYS),
        ("auth", AuthSettings::KEYS),
        ("audit", AuditSettings::KEYS),
        ("live", LiveSettings::KEYS),
        ("jobs", JobSettings::KEYS),
        ("clock", ClockSettings::KEYS),
        ("logging", LoggingSettings::KEYS),
        ("tracing", TracingSettings::KEYS),
        ("testing", TestingSettings::KEYS),
    ];

    /// Keys whose values are never shown.
    pub const SECRETS: &'static [&'static str] = &[
        "audit.key",
        "auth.root_password",
        "auth.token_secret",
        "storage.s3_secret_access_key",
        "storage.secrets_key",
    ];
}
