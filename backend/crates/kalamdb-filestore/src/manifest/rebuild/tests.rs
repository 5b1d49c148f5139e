use kalamdb_commons::ErrorKind;
use kalamdb_commons::ids::{Incarnation, SchemaVersion};
use kalamdb_commons::manifest::{BatchStatus, batch_file_name};
use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::*;
use crate::batch::Group;
use crate::batch::footer::About;
use crate::testing::{mix, spec};

fn footer(number: u64, from: i64, through: i64, group: (u32, u32)) -> BatchFooter {
    let spec = spec("local", 1);
    let entry = Batch {
        path: batch_file_name(number),
        number,
        status: BatchStatus::Active,
        from: CommitTime(from),
        through: CommitTime(through),
        min_updated: None,
        max_updated: None,
        min_id: None,
        max_id: None,
        row_count: 0,
        tombstone_count: 0,
        superseding_count: 0,
        byte_size: 1,
        schema_version: SchemaVersion(1),
        incarnation: Incarnation(1),
        columns: BTreeMap::new(),
    };
    let about = About {
        table_id: spec.table_id,
        table: spec.table,
        scope: spec.scope,
        group: Group::from(group),
        deletions_complete_from: CommitTime(from),
        columns: Vec::new(),
        keys: Vec::new(),
        entry,
    };
    BatchFooter { about, tombstones: RoaringBitmap::new(), superseding: RoaringBitmap::new() }
}

fn numbers(footers: Vec<BatchFooter>, recorded: Option<i64>) -> Result<Vec<u64>> {
    let recorded = recorded.map(|through| Recorded { version: 1, flushed_through: CommitTime(through) });
    let rebuilt = rebuild(&spec("local", 1), footers, &[], recorded)?;
    Ok(rebuilt.batches.iter().map(|batch| batch.number).collect())
}

const ALONE: (u32, u32) = (1, 1);

#[test]
fn batches_that_follow_each_other_are_all_taken() {
    let footers = vec![footer(3, 20, 30, ALONE), footer(1, 0, 10, ALONE), footer(2, 10, 20, ALONE)];
    let rebuilt = rebuild(&spec("local", 1), footers, &[], None).unwrap();
    assert_eq!(rebuilt.batches.iter().map(|batch| batch.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((rebuilt.flushed_through, rebuilt.deletions_complete_from), (CommitTime(30), CommitTime(20)));
    assert_eq!(numbers(Vec::new(), None).unwrap(), [0u64; 0]);
}

#[test]
fn an_interval_within_another_is_dropped_and_the_higher_number_wins() {
    let inputs = || vec![footer(1, 0, 10, ALONE), footer(2, 10, 20, ALONE), footer(3, 20, 30, ALONE)];
    let with = |more: BatchFooter| numbers([inputs(), vec![more]].concat(), None).unwrap();
    assert_eq!(with(footer(4, 0, 20, ALONE)), [4, 3]);
    assert_eq!(with(footer(4, 10, 30, ALONE)), [1, 4]);
    assert_eq!(with(footer(4, 0, 30, ALONE)), [4]);
    assert_eq!(with(footer(4, 10, 20, ALONE)), [1, 4, 3]);
}

#[test]
fn an_incomplete_group_does_not_count() {
    let crashed = vec![footer(1, 0, 10, ALONE), footer(2, 10, 20, (1, 2))];
    assert_eq!(numbers(crashed.clone(), None).unwrap(), [1]);
    assert_eq!(numbers([crashed.clone(), vec![footer(3, 20, 30, (2, 2))]].concat(), None).unwrap(), [1, 2, 3]);
    // The next flush covers what the crashed one left.
    assert_eq!(numbers([crashed, vec![footer(4, 10, 40, ALONE)]].concat(), None).unwrap(), [1, 4]);
}

#[test]
fn a_group_whose_other_files_were_merged_counts() {
    // 1 and 2 are a group; 2 was merged with 3 into 4.
    assert_eq!(numbers(vec![footer(1, 0, 10, (1, 2)), footer(4, 10, 30, ALONE)], Some(30)).unwrap(), [1, 4]);
    // 2 and 3 are a group; 2 was merged with 1 into 4.
    assert_eq!(numbers(vec![footer(3, 20, 30, (2, 2)), footer(4, 0, 20, ALONE)], Some(30)).unwrap(), [4, 3]);
    // Of 1, 2, 3 the last was merged with 4 into 5: 5 proves 2, and with it 1.
    let chain = vec![footer(1, 0, 10, (1, 3)), footer(2, 10, 20, (2, 3)), footer(5, 20, 40, ALONE)];
    assert_eq!(numbers(chain, Some(40)).unwrap(), [1, 2, 5]);
    // Two groups, of which each lost a file to the merge in the middle.
    let two = vec![footer(1, 0, 10, (1, 2)), footer(4, 30, 40, (2, 2)), footer(5, 10, 30, ALONE)];
    assert_eq!(numbers(two, Some(40)).unwrap(), [1, 5, 4]);
}

#[test]
fn what_was_flushed_must_be_reached() {
    let hole = || vec![footer(1, 0, 10, ALONE), footer(3, 20, 30, ALONE)];
    assert_eq!(numbers(hole(), Some(10)).unwrap(), [1]);
    for recorded in [Some(11), Some(30), None] {
        let error = numbers(hole(), recorded).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(
            error.message().contains("app.../Müll e%") && error.message().contains("batch-0003.parquet"),
            "{error}"
        );
    }
    assert_eq!(numbers(Vec::new(), Some(5)).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn an_unreadable_file_matters_unless_the_rest_reaches_what_was_flushed() {
    let unreadable = [("batch-0002.parquet".to_owned(), Error::corrupt("batch file 'x/batch-0002.parquet' is bad"))];
    let with = |recorded: Option<i64>| {
        let recorded = recorded.map(|through| Recorded { version: 1, flushed_through: CommitTime(through) });
        rebuild(&spec("local", 1), vec![footer(1, 0, 10, ALONE)], &unreadable, recorded)
    };
    assert_eq!(with(Some(10)).unwrap().batches.len(), 1);
    for recorded in [Some(20), None] {
        assert!(with(recorded).unwrap_err().message().contains("batch-0002.parquet"));
    }
}

#[test]
fn an_earlier_flush_with_the_same_inner_boundary_proves_nothing() {
    // 1 and 2 were complete and never published; of 3 and 4 only 3 is there, without what 4 holds.
    let crashed = vec![footer(1, 0, 10, (1, 2)), footer(2, 10, 20, (2, 2)), footer(3, 0, 10, (1, 2))];
    assert_eq!(numbers(crashed, None).unwrap(), [1, 2]);
}

#[test]
fn a_compaction_that_was_never_published_gives_way() {
    // 4 merged 1 and 2 and crashed; then 5 merged 2 and 3, and 2 and 3 are gone.
    let crossing = vec![footer(1, 0, 10, ALONE), footer(4, 0, 20, ALONE), footer(5, 10, 30, ALONE)];
    assert_eq!(numbers(crossing, Some(30)).unwrap(), [1, 5]);
    // 4 merged 1 and 2 and crashed; then 5, 6 and 7 rewrote each of 1, 2 and 3.
    let rewritten =
        vec![footer(4, 0, 20, ALONE), footer(5, 0, 10, ALONE), footer(6, 10, 20, ALONE), footer(7, 20, 30, ALONE)];
    assert_eq!(numbers(rewritten, Some(30)).unwrap(), [5, 6, 7]);
}

/// What a file holds: for each row its newest version in the interval, and whether that is a deletion.
type Content = BTreeMap<u64, (i64, bool)>;

/// What happened to a partition: commits, published files, and files that crashes and retirement left.
#[derive(Debug, Default)]
struct History {
    next: u64,
    now: i64,
    /// (commit time, row, whether it is a deletion).
    log: Vec<(i64, u64, bool)>,
    active: Vec<BatchFooter>,
    leftovers: Vec<BatchFooter>,
    contents: BTreeMap<u64, Content>,
}

impl History {
    fn flushed_through(&self) -> i64 {
        self.active.last().map_or(0, |footer| footer.about.entry.through.0)
    }

    fn make(&mut self, from: i64, through: i64, group: (u32, u32), content: Content) -> BatchFooter {
        self.next += 1;
        self.contents.insert(self.next, content);
        footer(self.next, from, through, group)
    }

    fn content(&self, footer: &BatchFooter) -> &Content {
        &self.contents[&footer.about.entry.number]
    }

    fn commit(&mut self, random: u64) {
        for at in 0..random % 4 {
            self.now += 1;
            self.log.push((self.now, (random >> (8 * at)) % 5, random >> (5 + at) & 3 == 0));
        }
    }

    /// The rows that live at a commit time, with their versions.
    fn truth(&self, through: i64) -> Content {
        let mut state = Content::new();
        self.log.iter().filter(|(at, _, _)| *at <= through).for_each(|(at, row, deleted)| {
            state.insert(*row, (*at, *deleted));
        });
        state.retain(|_, (_, deleted)| !*deleted);
        state
    }

    /// One to three files of one flush; of one that crashes, any part may be left.
    fn flush(&mut self, random: u64, crashes: bool) {
        let size = 1 + (random % 3) as u32;
        let (start, mut from, mut made) = (self.flushed_through(), self.flushed_through(), Vec::new());
        self.now += i64::from(size);
        let end = self.now;
        for position in 1..=size {
            let rest = i64::from(size - position);
            let through = if rest == 0 { end } else { (from + 1 + (random >> 8) as i64 % 4).min(end - rest) };
            // The newest version of each row at the end of the flush, in the file of its time.
            let newest: Content = self
                .log
                .iter()
                .filter(|(at, _, _)| *at > start && *at <= end)
                .map(|(at, row, d)| (*row, (*at, *d)))
                .collect();
            let content = newest.into_iter().filter(|(_, (at, _))| *at > from && *at <= through).collect();
            made.push(self.make(from, through, (position, size), content));
            from = through;
        }
        if crashes {
            let all = random >> 20 & 7 == 0;
            let left = made.into_iter().enumerate().filter(|(at, _)| all || random >> (at + 12) & 1 == 1);
            self.leftovers.extend(left.map(|(_, footer)| footer));
        } else {
            self.active.extend(made);
        }
    }

    /// Merges neighbours, or rewrites one; drops what later cold versions replace, and deletions of which no older
    /// version is in any active file. The inputs stay for a while or not.
    fn compact(&mut self, random: u64, crashes: bool) {
        if self.active.is_empty() {
            return;
        }
        let first = random as usize % self.active.len();
        let last = (first + 1 + (random >> 8) as usize % 3).min(self.active.len());
        let newer =
            |at: usize, row: &u64| self.active[at + 1..].iter().any(|file| self.content(file).contains_key(row));
        let older = |row: &u64| self.active[..first].iter().any(|file| self.content(file).contains_key(row));
        let mut content = Content::new();
        for at in first..last {
            let live = self.content(&self.active[at]).iter().filter(|(row, _)| !newer(at, row));
            content.extend(live.map(|(row, version)| (*row, *version)));
        }
        content.retain(|row, (_, deleted)| !*deleted || older(row));
        let from = self.active[first].about.entry.from.0;
        let through = self.active[last - 1].about.entry.through.0;
        let merged = self.make(from, through, ALONE, content);
        if crashes {
            self.leftovers.push(merged);
            return;
        }
        let inputs: Vec<_> = self.active.splice(first..last, [merged]).collect();
        let left = inputs.into_iter().enumerate().filter(|(at, _)| random >> (at + 16) & 1 == 1);
        self.leftovers.extend(left.map(|(_, footer)| footer));
    }

    fn shown(&self, rebuilt: &Rebuilt) -> Vec<String> {
        let one = |f: &BatchFooter| {
            format!(
                "#{} ({}, {}] {:?} {:?}",
                f.about.entry.number,
                f.about.entry.from,
                f.about.entry.through,
                f.about.group,
                self.content(f)
            )
        };
        let mut all: Vec<String> = self.active.iter().map(|f| format!("active {}", one(f))).collect();
        all.extend(self.leftovers.iter().map(|f| format!("left {}", one(f))));
        all.push(format!("chain {:?}", rebuilt.batches.iter().map(|b| b.number).collect::<Vec<_>>()));
        all.push(format!("{:?}", self.log));
        all
    }

    /// What a reader sees in these files.
    fn seen(&self, batches: &[Batch]) -> Content {
        let mut state = Content::new();
        batches.iter().for_each(|batch| state.extend(self.contents[&batch.number].clone()));
        state.retain(|_, (_, deleted)| !*deleted);
        state
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// After any history the files give what was published, or what a flush that was complete would have published;
    /// no row is lost, and no deleted one comes back.
    #[test]
    fn a_rebuilt_manifest_gives_the_same_answers(seed in any::<u64>(), steps in 1u64..20) {
        let mut history = History::default();
        for step in 0..steps {
            let random = mix(seed, step, 1);
            let crashes = mix(seed, step, 2).is_multiple_of(3);
            history.commit(mix(seed, step, 5));
            if mix(seed, step, 3).is_multiple_of(2) { history.flush(random, crashes) } else { history.compact(random, crashes) }
            // Removal takes away what it finds, one by one.
            let (removed, mut at) = (mix(seed, step, 4), 0);
            history.leftovers.retain(|_| { at += 1; removed >> (at % 60) & 3 != 0 });
            let published = history.flushed_through();
            prop_assert_eq!(history.seen(&history.active.iter().map(|f| f.about.entry.clone()).collect::<Vec<_>>()), history.truth(published));
            let files = [history.active.clone(), history.leftovers.clone()].concat();
            let recorded = Recorded { version: 1, flushed_through: CommitTime(published) };
            let rebuilt = rebuild(&spec("local", 1), files, &[], Some(recorded)).unwrap();
            let mut reached = 0;
            for batch in &rebuilt.batches {
                prop_assert_eq!(batch.from.0, reached);
                reached = batch.through.0;
            }
            prop_assert!(reached == rebuilt.flushed_through.0 && reached >= published);
            prop_assert_eq!(history.seen(&rebuilt.batches), history.truth(reached), "{:#?}", history.shown(&rebuilt));
        }
    }
}
