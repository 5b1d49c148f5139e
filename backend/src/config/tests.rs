use super::*;

fn load_text(file: &str, environment: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
    let owned = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Layers::default()
        .with_file(Some((PathBuf::from("server.toml"), file.to_owned())))
        .and_then(|layers| layers.with_environment(owned).validated())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn problems(file: &str, environment: &[(&str, &str)]) -> Vec<String> {
    load_text(file, environment).map(|_| ()).expect_err("refused")
}

/// FR-082: nothing set is the defaults, and they are valid.
#[test]
fn fr_082_defaults_are_valid() {
    let loaded = load_text("", &[]).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

/// FR-083: the environment wins over the file, which wins over the default, and each is remembered.
#[test]
fn fr_083_layers_override_and_are_remembered() {
    let file = "[server]\nport = 9000\nnode_id = 'a'\n";
    let loaded = load_text(file, &[("KALAMDB_SERVER__PORT", "9001")]).unwrap();
    assert_eq!(loaded.settings.server.port, 9001);
    assert_eq!(loaded.settings.server.node_id, "a");
    assert_eq!(*loaded.source("server.port"), Source::Environment("KALAMDB_SERVER__PORT".to_owned()));
    assert_eq!(*loaded.source("server.node_id"), Source::File("server.toml".into()));
    assert_eq!(*loaded.source("server.host"), Source::Default);
}

#[test]
fn a_variable_is_read_as_the_kind_of_its_key() {
    let loaded = load_text(
        "",
        &[
            ("KALAMDB_ROOT_PASSWORD", "0012345678"),
            ("KALAMDB_SERVER__NODE_ID", "7"),
            ("KALAMDB_SERVER__ALLOW_PLAINTEXT_REMOTE", "true"),
            ("KALAMDB_HOT__DURABILITY", "buffered"),
        ],
    )
    .unwrap();
    assert_eq!(loaded.settings.auth.root_password, "0012345678");
    assert_eq!(loaded.settings.server.node_id, "7");
    assert!(loaded.settings.server.allow_plaintext_remote);
    assert_eq!(loaded.settings.hot.durability, kalamdb_commons::settings::Durability::Buffered);
}

/// FR-085: all errors at once, each with the key, the value and what is allowed.
#[test]
fn fr_085_every_problem_is_reported_at_once() {
    let file = "
        top = 1
        [server]
        port = 70000
        prot = 1
        node_id = ''
        [limts]
        x = 1
        [hot]
        durability = 'sometimes'
        [limits]
        params_max = '50'
        [logging]
        level = '!!'
    ";
    let environment = [("KALAMDB_JOBS__PARALLEL_MAX", "many"), ("KALAMDB_NOPE__X", "1")];
    let found = problems(file, &environment);
    for expected in [
        "top (server.toml) stands outside any section",
        "server.port = 70000 (server.toml) is not allowed: it must be a whole number from 0 to 65535",
        "server.prot (server.toml) is not a setting; did you mean port?",
        "server.node_id = \"\" (server.toml) is not allowed: it must not be empty",
        "[limts] (server.toml) is not a section; did you mean [limits]?",
        "hot.durability = \"sometimes\" (server.toml) is not allowed: it must be one of \"sync\", \"buffered\"",
        "limits.params_max = \"50\" (server.toml) is not allowed: it must be a whole number from 0 to 65535",
        "logging.level = \"!!\" (server.toml) is not allowed: it must be error, warn,",
        "jobs.parallel_max = \"many\" (environment: KALAMDB_JOBS__PARALLEL_MAX) is not allowed",
        "[nope] (environment: KALAMDB_NOPE__X) is not a section; allowed are [",
    ] {
        let expected = expected.trim_end_matches('[');
        assert!(found.iter().any(|problem| problem.starts_with(expected)), "{expected}\nnot in {found:#?}");
    }
    assert_eq!(found.len(), 10, "{found:#?}");
}

#[test]
fn what_is_no_toml_is_refused_with_its_place() {
    let found = problems("[server\nport=1", &[]);
    assert!(found[0].starts_with("server.toml is not valid TOML") && found[0].contains("line 1"), "{found:?}");
}

#[test]
fn a_section_must_be_a_section() {
    assert!(problems("server = 1", &[])[0].contains("write [server]"));
}

#[test]
fn listening_beyond_loopback_needs_an_explicit_yes() {
    for host in ["0.0.0.0", "::", "192.168.1.2", "db.example.org"] {
        let found = problems("", &[("KALAMDB_SERVER__HOST", host)]);
        assert!(found[0].contains(host) && found[0].contains("allow_plaintext_remote"), "{found:?}");
        let yes = [("KALAMDB_SERVER__HOST", host), ("KALAMDB_SERVER__ALLOW_PLAINTEXT_REMOTE", "true")];
        assert!(load_text("", &yes).is_ok());
    }
    for host in ["127.0.0.1", "127.3.2.1", "::1", "localhost"] {
        assert!(load_text("", &[("KALAMDB_SERVER__HOST", host)]).is_ok(), "{host}");
    }
}

#[test]
fn rules_between_keys_name_both() {
    for (file, words) in [
        ("[hot]\nflush_at_mib = 100\nhard_limit_mib = 100", ["hot.hard_limit_mib = 100", "hot.flush_at_mib = 100"]),
        (
            "[auth]\naccess_token_seconds = 60\nrefresh_token_seconds = 30",
            ["auth.refresh_token_seconds = 30", "auth.access_token_seconds = 60"],
        ),
        ("[auth]\nroot_password = 'short'", ["auth.root_password = \"***\"", "auth.password_length_min = 8"]),
        ("[limits]\nsql_bytes_max = 1000\nbody_bytes_max = 10", ["limits.sql_bytes_max = 1000", "= 10"]),
        ("[storage]\ns3_access_key_id = 'x'", ["storage.s3_access_key_id", "storage.s3_secret_access_key"]),
        ("[storage]\ns3_bucket = 'b'\ns3_id = 'local'", ["storage.s3_id", "another id"]),
    ] {
        let found = problems(file, &[]);
        assert!(words.iter().all(|word| found[0].contains(word)), "{found:?}");
    }
}

#[test]
fn secrets_are_never_shown() {
    let file = "[auth]\ntoken_secret = 'too-short-a-secret'\nroot_password = 'p'\n";
    assert!(!problems(file, &[]).concat().contains("too-short"));

    let file =
        "[auth]\nroot_password = 'hunter22'\n[storage]\ns3_access_key_id = 'AKIA'\ns3_secret_access_key = 'wJal'\n";
    let printed = print::effective(&load_text(file, &[]).unwrap());
    assert!(!printed.contains("hunter22") && !printed.contains("wJal"), "{printed}");
    assert!(printed.contains("root_password = \"***\" # server.toml"), "{printed}");
    assert!(printed.contains("token_secret = \"\" # default"), "{printed}");
}

/// `--print-config` is itself a configuration file that says the same.
#[test]
fn what_is_printed_can_be_read_again() {
    let loaded = load_text("[server]\nport = 1234\n[flush]\nrows = 7\n", &[]).unwrap();
    assert_eq!(load_text(&print::effective(&loaded), &[]).unwrap().settings, loaded.settings);
}

/// FR-087: the example documents every setting, and with its comment marks removed it is the defaults.
#[test]
fn fr_087_the_example_file_is_up_to_date_and_complete() {
    let kept = include_str!("../../../server.example.toml");
    assert!(
        kept == print::example(),
        "server.example.toml is out of date: run `kalamdb-server --print-example-config > server.example.toml`"
    );
    assert_eq!(load_text(kept, &[]).unwrap().settings, Settings::default());
    let is_setting = |line: &str| {
        rules::paths().any(|(_, key)| line.strip_prefix("# ").is_some_and(|l| l.starts_with(&format!("{key} = "))))
    };
    let set: String = kept
        .lines()
        .map(|line| if is_setting(line) { &line[2..] } else { line })
        .map(|line| format!("{line}\n"))
        .collect();
    let loaded = load_text(&set, &[]).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(loaded.sources.len(), rules::paths().count(), "every setting is in the example");
}

#[test]
fn every_number_has_a_range_and_every_rule_a_setting() {
    let defaults = Layers::default();
    for (section, key) in rules::paths() {
        let path = format!("{section}.{key}");
        if defaults.default_of(section, key).unwrap().is_integer() {
            assert!(matches!(rules::rule(&path), Some(rules::Rule::Range(..))), "{path} has no range");
        }
        let default = defaults.default_of(section, key).unwrap();
        assert_eq!(rules::refusal(&path, default, default), None, "the default of {path} is refused");
    }
    for (path, _) in rules::RULES {
        assert!(rules::paths().any(|(section, key)| *path == format!("{section}.{key}")), "{path} is no setting");
    }
}

#[test]
fn one_underscore_too_few_is_pointed_out() {
    let loaded = load_text("", &[("KALAMDB_SERVER_PORT", "1"), ("KALAMDB_URL", "x")]).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].contains("KALAMDB_SERVER__PORT"));
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let found = load(Some(Path::new("no/such/file.toml"))).map(|_| ()).expect_err("absent");
    assert!(found[0].to_string().contains("no/such/file.toml"));
}
