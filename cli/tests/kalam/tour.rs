//! The tours of the README and of the page for beginners, carried out as they are written, on the real input.

use std::os::unix::fs::symlink;

use crate::guides::{Block, Shell, blocks, root, text_of};
use crate::server::{Server, programs};

/// How a command begins in a block that shows what it says, too.
const PROMPT: &str = "$ ";
/// What stands before the password.
const PASSWORD: &str = "KALAM_PASSWORD=";
/// Characters of ids and times: a word with more digits differs from run to run.
const DIGITS_MAX: usize = 7;

/// A command as it is typed, and what it says; empty if the page leaves that out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Typed {
    command: String,
    output: String,
}

impl Typed {
    /// Whether the shell waits for the rest: a quote is open.
    fn is_open(&self) -> bool {
        self.output.is_empty() && !self.command.matches('"').count().is_multiple_of(2)
    }

    /// What starts the server is the test's.
    fn is_start(&self) -> bool {
        self.command.contains("make run")
    }
}

/// The commands of a block: behind prompts if there are any, or else line by line.
fn typed(block: &Block) -> Vec<Typed> {
    let mut all: Vec<Typed> = Vec::new();
    let is_prompted = block.text.starts_with(PROMPT);
    for line in block.text.lines() {
        let command = if is_prompted { line.strip_prefix(PROMPT) } else { Some(line) };
        match (all.last_mut().filter(|last| last.is_open()), command) {
            (Some(open), _) => open.command += &format!("\n{line}"),
            (None, Some(command)) => all.push(Typed { command: command.to_owned(), output: String::new() }),
            (None, None) => all.last_mut().expect("a prompt").output += &format!("{line}\n"),
        }
    }
    all
}

/// The words of an output, without the lines of tables and without what differs from run to run: ids, times, sizes and
/// durations.
fn words(output: &str) -> Vec<String> {
    let is_line = |c: char| ('\u{2500}'..='\u{257f}').contains(&c);
    let words: Vec<&str> =
        output.split(|c: char| c.is_whitespace() || is_line(c)).filter(|word| !word.is_empty()).collect();
    let differs = |(index, word): (usize, &&str)| {
        let unit = words.get(index + 1).copied().unwrap_or_default();
        let is_id = word.starts_with("FL-") || word.chars().filter(char::is_ascii_digit).count() > DIGITS_MAX;
        is_id || matches!(unit, "bytes." | "s" | "rows/s)")
    };
    let masked = words.iter().enumerate().map(|(index, word)| if differs((index, word)) { "#" } else { word });
    masked.map(ToOwned::to_owned).collect()
}

/// Carries out the blocks of a page, in a directory that looks like a clone that has been built.
fn carry_out(blocks: &[Block]) {
    let text: String = blocks.iter().map(|block| block.text.as_str()).collect();
    let (_, rest) = text.split_once(PASSWORD).expect("a password");
    let password = rest.split_whitespace().next().expect("a password");
    let server = Server::start(&[("ROOT_PASSWORD", password)]);
    symlink(programs().join(".."), server.file("target")).unwrap();
    symlink(root().join("docs"), server.file("docs")).unwrap();
    let steps: Vec<Typed> = blocks.iter().flat_map(typed).filter(|typed| !typed.is_start()).collect();
    let mut shell = Shell::new(server.directory.path(), server.directory.path());
    shell.environment("KALAM_URL", &server.url);
    // A terminal shows both outputs.
    let scripts = ["exec 2>&1"].into_iter().chain(steps.iter().map(|step| step.command.as_str()));
    let (outputs, complaints) = shell.run(scripts);
    assert_eq!(outputs.len(), steps.len() + 1, "not every command succeeds:\n{outputs:?}\n{complaints}");
    for (step, said) in steps.iter().zip(&outputs[1..]).filter(|(step, _)| !step.output.is_empty()) {
        assert_eq!(words(said), words(&step.output), "{}\n{said}", step.command);
    }
}

/// The blocks below a heading of the README.
fn section(heading: &str) -> Vec<Block> {
    let readme = text_of("README.md");
    let (_, rest) = readme.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let section = rest.split("\n## ").next().unwrap_or(rest);
    blocks(section).into_iter().filter(|block| block.text.starts_with(PROMPT)).collect()
}

#[test]
fn the_first_row_of_the_readme_is_true() {
    carry_out(&section("A first row"));
}

#[test]
fn the_five_minutes_of_the_readme_are_true() {
    carry_out(&section("Five minutes"));
}

#[test]
fn getting_started_is_true() {
    carry_out(&blocks(&text_of("docs/getting-started.md")));
}

#[test]
fn commands_and_outputs_are_told_apart() {
    let page = "```\n$ a \"b\n   c\"\nd\ne\n$ f\n```\n```\ng\n```\n";
    let found: Vec<Typed> = blocks(page).iter().flat_map(typed).collect();
    let typed = |command: &str, output: &str| Typed { command: command.to_owned(), output: output.to_owned() };
    assert_eq!(found, [typed("a \"b\n   c\"", "d\ne\n"), typed("f", ""), typed("g", "")]);
}

#[test]
fn only_what_differs_is_left_out_of_a_comparison() {
    assert_eq!(words("│ 12 ┆ a │\n╞═══╡"), words("12 a"));
    assert_eq!(words("2613 bytes. Job ID: FL-0"), words("7 bytes. Job ID: FL-1"));
    assert_ne!(words("Updated 73 row(s)"), words("Updated 74 row(s)"));
}
